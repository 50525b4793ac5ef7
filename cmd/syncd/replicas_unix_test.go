//go:build unix

package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"polarmirror/internal/config"
	"polarmirror/internal/pgtest"
	"polarmirror/internal/polarsim"
)

// The long form: go test ./cmd/syncd -run Replicas -v -replicas.for=2m -replicas.tick=5s -replicas.kill=20s -replicas.organizations=60
var (
	replicasFor  = flag.Duration("replicas.for", 4*time.Second, "how long TestReplicas lets three replicas be killed")
	replicasTick = flag.Duration("replicas.tick", time.Second, "time between their ticks, whole seconds")
	replicasKill = flag.Duration("replicas.kill", time.Second, "time between kills")
	replicasOrgs = flag.Int("replicas.organizations", 6, "organizations that they mirror")
)

const (
	replicaCount     = 3
	replicaPool      = 10 // database.max_connections of each
	replicaFullTicks = 5  // ticks between two full runs
)

// TestReplicasKilledAgainAndAgainAnswerEverySlotOnce runs three processes on
// organizations whose data keeps changing, and kills one after the other with
// SIGKILL.
func TestReplicasKilledAgainAndAgainAnswerEverySlotOnce(t *testing.T) {
	t.Parallel()
	large(t)
	r := newReplicas(t)
	eventually(t, "the schema, and a run", func() bool {
		return r.text(`SELECT (to_regclass('polar.sync_runs') IS NOT NULL)::text`) == "true" && r.text(`SELECT count(*)::text FROM polar.sync_runs`) != "0"
	})
	began := time.Now()
	changing, stopChanging := context.WithCancel(t.Context())
	var living sync.WaitGroup
	living.Go(func() { r.live(changing) })
	living.Go(func() { r.watchConnections(changing) })
	kills := 0
	for n := 0; time.Since(began) < *replicasFor; n++ {
		r.pause(*replicasKill)
		r.kill(n % replicaCount)
		kills++
	}
	stopChanging()
	living.Wait()
	r.untilQuiet()
	r.stop()

	r.checkSlots()
	if left := r.text(`SELECT count(*)::text FROM polar.sync_runs WHERE status = 'running'`); left != "0" {
		t.Errorf("%s runs are left running", left)
	}
	for _, org := range r.orgs {
		r.compareAll(t, org.ID)
	}
	if most := (replicaCount + 1) * replicaPool; r.connections > most { // those of the one just killed may still be ending
		t.Errorf("%d connections at a time, want at most %d", r.connections, most)
	}
	r.report(kills, time.Since(began))
}

// replicas are the processes, and the source that they mirror.
type replicas struct {
	*fixture
	t           *testing.T
	processes   [replicaCount]*replica
	changes     int                       // made at the source
	finished    [replicaCount]int         // runs, by place
	skipped     map[string]map[int64]bool // slots of ticks logged as skipped, by organization
	reasons     map[string]int            // slots by the reason, once for each replica that logged them
	connections int                       // the most there were at a time
}

// A replica is one process after the other in one place.
type replica struct {
	cmd    *exec.Cmd
	ended  chan error
	stderr *buffer
}

func newReplicas(t *testing.T) *replicas {
	t.Helper()
	var orgs []polarsim.Organization
	for n := range *replicasOrgs {
		size := 20 + 7*n // most on one page, the others with real ticks
		if n%10 == 0 {
			size = 1500 // walks of several blocks
		}
		orgs = append(orgs, polarsim.Organization{Name: fmt.Sprintf("org%02d", n), Token: fmt.Sprintf("polar_oat_%s%d", canary, n), CustomerMeters: size})
	}
	sim := polarsim.New(polarsim.Options{Seed: 7, Organizations: orgs, Latency: 5 * time.Millisecond})
	running, err := sim.Start()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = running.Close() })
	r := &replicas{t: t, skipped: map[string]map[int64]bool{}, reasons: map[string]int{}, fixture: &fixture{sim: sim, url: running.URL, db: pgtest.New(t), orgs: sim.Organizations()}}
	r.config = r.write(t, r.yaml(nil,
		fmt.Sprintf("schedule: {incremental: '@every %v', full: '@every %v'}", *replicasTick, replicaFullTicks**replicasTick),
		fmt.Sprintf("sync: {concurrency: %d}", replicaPool-config.SpareConnections)))
	text, err := os.ReadFile(r.config)
	if err != nil {
		t.Fatal(err)
	}
	pool := fmt.Sprintf("max_connections: %d, url:", replicaPool)
	if err := os.WriteFile(r.config, []byte(strings.Replace(string(text), "database: {url:", "database: {"+pool, 1)), 0o600); err != nil {
		t.Fatal(err)
	}
	for n := range r.processes {
		r.launch(n)
	}
	t.Cleanup(func() {
		for _, p := range r.processes {
			_ = p.cmd.Process.Kill()
		}
	})
	return r
}

func (r *replicas) launch(n int) {
	r.t.Helper()
	p := &replica{cmd: exec.Command(os.Args[0], "--config", r.config, "--log-level", "debug"), ended: make(chan error, 1), stderr: &buffer{}}
	p.cmd.Env = append(os.Environ(), mainEnv+"=1")
	p.cmd.Stderr = p.stderr
	if err := p.cmd.Start(); err != nil {
		r.t.Fatal(err)
	}
	go func() { p.ended <- p.cmd.Wait() }()
	r.processes[n] = p
}

// kill ends a replica with SIGKILL and starts it again.
func (r *replicas) kill(n int) {
	r.t.Helper()
	p := r.processes[n]
	if err := p.cmd.Process.Kill(); err != nil {
		r.t.Fatalf("replica %d ended by itself: %v: %s", n, <-p.ended, p.stderr)
	}
	<-p.ended
	r.checkLog(n)
	r.launch(n)
}

// stop has all replicas end in order.
func (r *replicas) stop() {
	r.t.Helper()
	for _, p := range r.processes {
		if err := p.cmd.Process.Signal(os.Interrupt); err != nil {
			r.t.Fatal(err)
		}
	}
	for n, p := range r.processes {
		if err := <-p.ended; err != nil {
			r.t.Errorf("replica %d: %v\n%s", n, err, p.stderr.String())
		}
		r.checkLog(n)
	}
}

// checkLog fails on what nobody should have to look at: replicas that die are no
// error of those that live.
func (r *replicas) checkLog(n int) {
	r.t.Helper()
	for line := range strings.Lines(r.processes[n].stderr.String()) {
		if strings.Contains(line, `"msg":"run finished"`) {
			r.finished[n]++
		}
		if strings.Contains(line, `"msg":"schedule skipped"`) {
			r.noteSkipped(line)
		}
		if strings.Contains(line, `"level":"error"`) || strings.Contains(line, `"level":"warn"`) || strings.Contains(line, canary) {
			r.t.Errorf("a replica says: %s", line)
		}
	}
}

// noteSkipped reads a line about slots that no run answered.
func (r *replicas) noteSkipped(line string) {
	r.t.Helper()
	var skip struct {
		Organization, Kind, Reason string
		Slot                       time.Time
		LastSlot                   time.Time `json:"last_slot"`
		Slots                      int
	}
	if err := json.Unmarshal([]byte(line), &skip); err != nil || skip.Reason == "" || skip.Slot.IsZero() {
		r.t.Errorf("%s: %v", line, err)
	}
	if skip.Kind != "incremental" {
		return
	}
	if r.skipped[skip.Organization] == nil {
		r.skipped[skip.Organization] = map[int64]bool{}
	}
	for slot := skip.Slot; !slot.After(skip.LastSlot); slot = slot.Add(*replicasTick) {
		r.skipped[skip.Organization][slot.Unix()] = true
	}
	r.reasons[regexp.MustCompile(`[0-9]+ `).ReplaceAllString(skip.Reason, "")] += skip.Slots
}

// pause lets the replicas work.
func (r *replicas) pause(d time.Duration) {
	select {
	case <-time.After(d):
	case <-r.t.Context().Done():
	}
}

// live changes rows and adds some, as long as ctx lasts.
func (r *replicas) live(ctx context.Context) {
	chance := rand.New(rand.NewPCG(1, 2))
	for ctx.Err() == nil {
		org := r.orgs[chance.IntN(len(r.orgs))]
		rows := r.sim.Listed(org.ID)
		if _, err := r.sim.Consume(rows[chance.IntN(len(rows))].ID, "0.125"); err != nil {
			r.t.Error(err)
		}
		if chance.IntN(10) == 0 {
			if _, err := r.sim.AddCustomerMeter(org.ID, polarsim.NewCustomerMeter{}); err != nil {
				r.t.Error(err)
			}
		}
		r.changes++
		select {
		case <-time.After(20 * time.Millisecond):
		case <-ctx.Done():
		}
	}
}

// watchConnections notes how many connections the replicas have.
func (r *replicas) watchConnections(ctx context.Context) {
	for ctx.Err() == nil {
		var n int
		const sql = `SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND application_name = 'syncd'`
		if err := r.db.Pool.QueryRow(ctx, sql).Scan(&n); err == nil {
			r.connections = max(r.connections, n)
		}
		select {
		case <-time.After(100 * time.Millisecond):
		case <-ctx.Done():
		}
	}
}

// untilQuiet waits until every organization has been walked and ticked since the
// source rests.
func (r *replicas) untilQuiet() {
	r.t.Helper()
	now := r.text(`SELECT clock_timestamp()::text`)
	const sql = `
SELECT count(*)::text
  FROM polar.organizations o
 WHERE EXISTS (SELECT FROM polar.sync_runs WHERE organization_id = o.id AND kind = 'full' AND status = 'succeeded' AND exact AND started_at > $1::timestamptz)
   AND EXISTS (SELECT FROM polar.sync_runs WHERE organization_id = o.id AND kind = 'incremental' AND status = 'succeeded' AND started_at > $1::timestamptz)`
	eventually(r.t, "a walk and a tick of all", func() bool { return r.text(sql, now) == fmt.Sprint(len(r.orgs)) })
}

// checkSlots fails unless each slot of each organization, from its first tick to
// its last, is answered by one run or logged as skipped, and not both.
func (r *replicas) checkSlots() {
	r.t.Helper()
	const ticks = `
SELECT
    o.name,
    r.slot
  FROM polar.sync_runs r
  JOIN polar.organizations o ON o.id = r.organization_id
 WHERE r.kind = 'incremental'
   AND r.slot IS NOT NULL
 ORDER BY r.slot`
	rows, err := r.db.Pool.Query(r.t.Context(), ticks)
	if err != nil {
		r.t.Fatal(err)
	}
	answered := map[string][]int64{}
	var name string
	var slot time.Time
	_, err = pgx.ForEachRow(rows, []any{&name, &slot}, func() error {
		answered[name] = append(answered[name], slot.Unix())
		return nil
	})
	if err != nil {
		r.t.Fatal(err)
	}
	if len(answered) != len(r.orgs) {
		r.t.Errorf("%d organizations have ticks, want %d", len(answered), len(r.orgs))
	}
	slots, wrong := 0, 0
	for name, ticks := range answered {
		wrong += len(ticks) - len(slices.Compact(slices.Clone(ticks)))
		for slot := ticks[0]; slot <= ticks[len(ticks)-1]; slot += int64(replicasTick.Seconds()) {
			slots++
			if _, found := slices.BinarySearch(ticks, slot); found == r.skipped[name][slot] {
				wrong++
			}
		}
	}
	if wrong > 0 {
		r.t.Errorf("%d of %d slots are not answered exactly once", wrong, slots)
	}
	r.t.Logf("%d slots", slots)
	if other := r.text(`SELECT count(*)::text FROM polar.sync_runs WHERE kind = 'incremental' AND (slot IS NULL OR mod(extract(epoch FROM slot), extract(epoch FROM $1::interval)) <> 0)`, *replicasTick); other != "0" {
		r.t.Errorf("%s ticks answer no slot", other)
	}
}

// report logs the figures.
func (r *replicas) report(kills int, took time.Duration) {
	r.t.Helper()
	figures := map[string]string{
		"kills":                   fmt.Sprint(kills),
		"runs of each replica":    fmt.Sprint(r.finished),
		"changes at the source":   fmt.Sprint(r.changes),
		"connections at most":     fmt.Sprint(r.connections),
		"ticks by status":         r.text(`SELECT string_agg(status || ' ' || n, ', ' ORDER BY status) FROM (SELECT status, count(*) AS n FROM polar.sync_runs WHERE kind = 'incremental' GROUP BY status) t`),
		"full runs by status":     r.text(`SELECT string_agg(status || ' ' || n, ', ' ORDER BY status) FROM (SELECT status, count(*) AS n FROM polar.sync_runs WHERE kind = 'full' GROUP BY status) t`),
		"slots skipped by reason": fmt.Sprint(r.reasons),
		"seconds a tick began after its slot (median, 99 %, most)": r.text(`
SELECT concat_ws(' ', round(percentile_cont(0.5) WITHIN GROUP (ORDER BY late)::numeric, 2), round(percentile_cont(0.99) WITHIN GROUP (ORDER BY late)::numeric, 2), round(max(late)::numeric, 2))
  FROM (SELECT extract(epoch FROM started_at - slot) AS late FROM polar.sync_runs WHERE kind = 'incremental' AND slot IS NOT NULL) t`),
	}
	for _, name := range slices.Sorted(maps.Keys(figures)) {
		r.t.Logf("%s: %s", name, figures[name])
	}
	r.t.Logf("%d organizations, a tick every %v, %v in all", len(r.orgs), *replicasTick, took.Round(time.Second))
}

// text runs a query that returns one value.
func (r *replicas) text(sql string, args ...any) string {
	r.t.Helper()
	return r.fixture.text(r.t, sql, args...)
}
