package mirror

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"polarmirror/internal/localpg"
	"polarmirror/internal/pgtest"
	"polarmirror/internal/polarsim"
	"polarmirror/internal/secret"
	"polarmirror/internal/store"
)

// slotsOnce fails unless each slot of the ticks, from the first run to the last,
// is answered by a run or logged as skipped with a reason, and not both.
func (w *env) slotsOnce(interval time.Duration, logs *observer.ObservedLogs) {
	w.Helper()
	rows, err := w.db.Pool.Query(w.Context(), `SELECT slot FROM polar.sync_runs WHERE kind = 'incremental' AND slot IS NOT NULL ORDER BY slot`)
	if err != nil {
		w.Fatal(err)
	}
	runs, err := pgx.CollectRows(rows, pgx.RowTo[time.Time])
	if err != nil || len(runs) == 0 {
		w.Fatalf("%d runs (%v)", len(runs), err)
	}
	answered, skipped := map[int64]bool{}, map[int64]bool{}
	for _, slot := range runs {
		answered[slot.UnixMicro()] = true
	}
	for _, line := range skips(logs) {
		if line["kind"] != "incremental" {
			continue
		}
		if line["reason"] == "" {
			w.Errorf("skipped without a reason: %v", line)
		}
		for slot, last := line["slot"].(time.Time), line["last_slot"].(time.Time); !slot.After(last); slot = slot.Add(interval) {
			skipped[slot.UnixMicro()] = true
		}
	}
	for slot := runs[0]; !slot.After(runs[len(runs)-1]); slot = slot.Add(interval) {
		if at := slot.UnixMicro(); answered[at] == skipped[at] {
			w.Errorf("slot %v: answered %v, skipped %v", slot, answered[at], skipped[at])
		}
	}
}

// skips are the fields of the log lines about skipped slots.
func skips(logs *observer.ObservedLogs) (lines []map[string]any) {
	for _, entry := range logs.FilterMessage("schedule skipped").All() {
		lines = append(lines, entry.ContextMap())
	}
	return lines
}

func TestOrganizationThatAnotherHoldsIsLeftAndItsSlotsAreAccountedFor(t *testing.T) {
	t.Parallel()
	w := quiet(t, 250, 0.3)
	w.backfill()
	const interval = time.Second // longer than a tick takes, even with the race detector
	core, logs := observer.New(zap.DebugLevel)
	stop := w.serve(Schedules{Incremental: every(interval)}, w.mirror(func(o *Options) { o.Log = zap.New(core) }))
	w.eventually("a first tick", func() bool { return w.ticks() >= 1 })

	// A run of another process, such as a backfill, which does no ticks.
	holder, err := pgtest.OpenStore(t, w.db).Acquire(t.Context(), w.orgs[0].ID, true)
	if err != nil {
		t.Fatal(err)
	}
	run, err := holder.StartRun(t.Context(), store.Full, time.Time{})
	if err != nil {
		t.Fatal(err)
	}
	w.eventually("some slots", func() bool {
		return w.value(`SELECT (now() - started_at > interval '3 seconds')::text FROM polar.sync_runs WHERE id = $1`, run.ID) == "true"
	})
	if err := holder.FinishRun(t.Context(), run, store.Outcome{}); err != nil {
		t.Fatal(err)
	}
	holder.Release()
	before := w.ticks()
	w.eventually("ticks after it", func() bool { return w.ticks() > before+1 })
	stop()

	w.slotsOnce(interval, logs)
	named := 0
	for _, line := range skips(logs) {
		if strings.HasPrefix(line["reason"].(string), fmt.Sprintf("full run %d was under way", run.ID)) {
			named++
		}
	}
	if named != 1 {
		t.Errorf("%d lines name the run in the way: %v", named, skips(logs))
	}
	if n := logs.FilterMessage("organization left to another syncd").FilterLevelExact(zap.InfoLevel).Len(); n != 1 {
		t.Errorf("logged %d times that the organization is left to another, want once", n)
	}
}

func TestTicksBeforeTheFirstWalkAreSkippedWithAReason(t *testing.T) {
	t.Parallel()
	w := small(t, 150)
	core, logs := observer.New(zap.DebugLevel)
	s := w.scheduler(Schedules{Incremental: every(time.Minute)}, func(o *Options) { o.Log = zap.New(core) })
	for minutes := range 3 {
		s.incremental.next = time.Now().Truncate(time.Minute).Add(time.Duration(minutes-4) * time.Minute)
		err := s.worker.withSession(t.Context(), false, func(session *store.Session) error {
			now := s.incremental.next
			s.incremental.schedule = at(now)
			err := s.tickOn(t.Context(), session, false)
			s.incremental.schedule = every(time.Minute)
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	lines := skips(logs)
	for _, line := range lines {
		if line["kind"] != "incremental" || line["slots"] != int64(1) || line["reason"] != errNoFloor.Error() {
			t.Errorf("logged %v", line)
		}
	}
	if info := len(skips(logs.FilterLevelExact(zap.InfoLevel))); len(lines) != 3 || info != 1 {
		t.Errorf("%d lines, %d of them at info, want 3 and 1: %v", len(lines), info, lines)
	}
}

// at is a schedule of one slot.
type at time.Time

func (a at) Next(t time.Time) time.Time {
	if t.Before(time.Time(a)) {
		return time.Time(a)
	}
	return time.Time{}
}

func TestOverdueFullRunIsTakenOverFromADeadProcess(t *testing.T) {
	t.Parallel()
	w := small(t, 300)
	slot := time.Now().Truncate(time.Hour)
	dying, err := pgtest.OpenStore(t, w.db).Acquire(t.Context(), w.register(), true)
	if err != nil {
		t.Fatal(err)
	}
	dead, err := dying.StartRun(t.Context(), store.Full, slot)
	if err != nil {
		t.Fatal(err)
	}
	s := w.scheduler(Schedules{Incremental: every(time.Hour), Full: every(time.Hour)})
	s.fullDue, s.fullSlot, s.incremental.next = true, slot, slot
	s.runDue(t.Context())
	if !s.fullDue || !s.incremental.next.After(time.Now()) || s.retryAt.After(s.incremental.comesAt()) {
		t.Fatalf("while another works on it: due %v, next tick %v, not before %v", s.fullDue, s.incremental.next, s.retryAt)
	}
	dying.Release() // the process is gone
	s.retryAt, s.incremental.next = time.Time{}, time.Now().Add(time.Hour)
	s.runDue(t.Context())
	if got, want := w.runs(), []string{"full abandoned -", "full succeeded true"}; fmt.Sprint(got) != fmt.Sprint(want) || s.fullDue {
		t.Errorf("runs %v, want %v; still due: %v", got, want, s.fullDue)
	}
	if got := w.value(`SELECT count(*)::text FROM polar.sync_runs WHERE slot = $1 AND id > $2 AND status = 'succeeded'`, slot, dead.ID); got != "1" {
		t.Error("the slot is not answered by the run that took over")
	}
	w.same()
}

// register makes the organization known and returns its id.
func (w *env) register() (id [16]byte) {
	w.Helper()
	if err := w.store.RegisterOrganization(w.Context(), w.orgs[0].ID, w.orgs[0].Name); err != nil {
		w.Fatal(err)
	}
	return w.orgs[0].ID
}

// TestServiceOutlivesARestartOfPostgresAndLogsItOnce runs five organizations on
// a server of its own, which is shut down (57P01 for those connected) and comes
// back on the same port.
func TestServiceOutlivesARestartOfPostgresAndLogsItOnce(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	startPostgres := func() *localpg.Server {
		t.Helper()
		pg, err := localpg.Start(t.Context(), localpg.Options{DataDir: dir, Settings: map[string]string{"fsync": "off"}})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = pg.Close(context.WithoutCancel(t.Context())) })
		return pg
	}
	pg := startPostgres()
	st, err := store.Open(t.Context(), store.Options{URL: secret.New(pg.URL()), MaxConnections: 8})
	if err != nil {
		t.Fatal(err)
	}
	defer st.Close()
	if _, err := st.Migrate(t.Context()); err != nil {
		t.Fatal(err)
	}
	w := &env{TB: t, sim: polarsim.New(fiveOrganizations()), store: st}
	w.orgs = w.sim.Organizations()
	core, logs := observer.New(zap.DebugLevel)
	stop := w.serve(Schedules{Incremental: every(200 * time.Millisecond), Full: every(time.Second), RunOnStart: true},
		w.mirror(func(o *Options) { o.Log = zap.New(core) }))
	finished := func() int { return logs.FilterMessage("run finished").Len() }
	eventually(t, "runs of all", func() bool { return finished() > 10 })
	if err := pg.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	eventually(t, "ticks that find no database", func() bool { return logs.FilterMessage("database still lost").Len() > 20 })
	again := startPostgres()
	if again.URL() != pg.URL() {
		t.Fatal("the test's server came back at another address")
	}
	before := finished()
	eventually(t, "runs of all after the restart", func() bool {
		seen := map[any]bool{}
		for _, entry := range logs.FilterMessage("run finished").All()[before:] {
			seen[entry.ContextMap()["organization"]] = true
		}
		return len(seen) == len(w.orgs) // each has found what it left running, too
	})
	stop()

	loud := map[string]int{}
	for _, entry := range logs.FilterLevelExact(zap.WarnLevel).All() {
		loud[entry.Message]++
	}
	for _, entry := range logs.FilterLevelExact(zap.ErrorLevel).All() {
		loud[entry.Message]++
	}
	if len(loud) != 1 || loud["database lost"] != 1 || logs.FilterMessage("database is back").Len() != 1 {
		t.Errorf("an outage was logged as %v, and as over %d times", loud, logs.FilterMessage("database is back").Len())
	}
	left, err := st.Query(t.Context(), `SELECT id, kind, started_at, pages FROM polar.sync_runs WHERE status = 'running'`)
	if err != nil || len(left.Rows) > 0 {
		t.Errorf("runs left running: %v (%v)", left, err)
		entries := logs.All()
		for _, e := range entries[max(0, len(entries)-40):] {
			t.Log(e.Time.UTC().Format("15:04:05.000000"), e.Message, e.ContextMap())
		}
	}
}

func fiveOrganizations() polarsim.Options {
	opts := polarsim.Options{Seed: 7}
	for n := range 5 {
		opts.Organizations = append(opts.Organizations, polarsim.Organization{Name: fmt.Sprintf("org%d", n), CustomerMeters: 60 + 60*n})
	}
	return opts
}

// TestOutageIsLoggedOnceWhoeverMeetsIt has organizations meet its beginning and its
// end in any order.
func TestOutageIsLoggedOnceWhoeverMeetsIt(t *testing.T) {
	core, logs := observer.New(zap.InfoLevel)
	m := &Mirror{opts: Options{Log: zap.New(core)}}
	before := time.Now()
	m.databaseLost(io.ErrUnexpectedEOF, before)
	m.databaseBack(before) // a write from before it, noted late
	m.databaseBack(time.Now())
	m.databaseLost(io.ErrUnexpectedEOF, before) // by a long run that had nothing to write meanwhile
	m.databaseLost(io.ErrUnexpectedEOF, time.Now())
	var got []string
	for _, entry := range logs.All() {
		got = append(got, entry.Message)
	}
	if want := []string{"database lost", "database is back", "database lost"}; !slices.Equal(got, want) {
		t.Errorf("two outages were logged as %q", got)
	}
}
