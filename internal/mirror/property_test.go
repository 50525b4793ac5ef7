package mirror

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"pgregory.net/rapid"

	"polarmirror/internal/pgtest"
	"polarmirror/internal/polar"
	"polarmirror/internal/polarsim"
	"polarmirror/internal/secret"
	"polarmirror/internal/store"
)

// An event is one thing that happens at Polar, to the mirror's process or to
// its database while the mirror reads.
type event struct {
	request int // happens before the request of this number is answered
	kind    eventKind
	pick    uint64 // which row, customer or meter
}

type eventKind int

const (
	add eventKind = iota
	addLate
	consume
	resetUnits
	deleteRow
	archive
	unarchive
	deleteCustomer
	renameCustomer
	renameMeter
	addCustomer
	addMeter
	flapMeter
	unlist
	list
	consumeLate
	clockBack
	webhookNow
	webhookCaptured
	webhookDelivered
	crash
	answerLost
	requestLost
	eventKinds
)

// A plan is one case: a source, a way of reading it, and what happens meanwhile.
type plan struct {
	seed              uint64
	rows, page, width int
	block, meters     int
	events            []event
	clockMayGoBack    bool
	sweep             bool
	earlier           []event // since the mirror was loaded; nil if it was not
}

func drawPlan(t *rapid.T) plan {
	p := plan{
		seed:           rapid.Uint64().Draw(t, "seed"),
		rows:           rapid.IntRange(0, 120).Draw(t, "rows"),
		page:           rapid.SampledFrom([]int{7, 8, 10, 16, 25, 100}).Draw(t, "page"),
		width:          rapid.IntRange(1, 4).Draw(t, "width"),
		block:          rapid.SampledFrom([]int{1, 10, 40, 2000}).Draw(t, "block"),
		meters:         rapid.IntRange(1, 4).Draw(t, "meters"),
		clockMayGoBack: rapid.IntRange(0, 3).Draw(t, "clock") == 0,
		sweep:          rapid.Bool().Draw(t, "sweep"),
	}
	if rapid.Bool().Draw(t, "loaded") {
		p.earlier = []event{}
		for range rapid.IntRange(0, 20).Draw(t, "earlier") {
			p.earlier = append(p.earlier, event{kind: drawKind(t), pick: rapid.Uint64().Draw(t, "pick")})
		}
	}
	n := rapid.IntRange(0, 30).Draw(t, "events")
	for range n {
		p.events = append(p.events, event{
			request: rapid.IntRange(1, 40).Draw(t, "request"),
			kind:    drawKind(t),
			pick:    rapid.Uint64().Draw(t, "pick"),
		})
	}
	return p
}

// walkedRows lets sweep all that has more than one row.
func (p *plan) walkedRows() int {
	if p.sweep {
		return 1
	}
	return 0
}

// drawKind draws archiving and its end more often: only rows that appear in the
// middle of the list can open a gap.
func drawKind(t *rapid.T) eventKind {
	if rapid.IntRange(0, 2).Draw(t, "shift") == 0 {
		return rapid.SampledFrom([]eventKind{archive, unarchive, unarchive}).Draw(t, "kind")
	}
	return eventKind(rapid.IntRange(0, int(eventKinds)-1).Draw(t, "kind"))
}

// A history of what Polar had lets the claims be checked: every state of every
// row, and since when and until when the row was listed.
type scene struct {
	*env
	mu       sync.Mutex
	org      uuid.UUID
	plan     plan
	offset   time.Duration
	kill     context.CancelCauseFunc // ends the mirror's process
	captured []string                // webhook payloads on their way
	net      *fragileNet             // between the mirror and its database
	others   *store.Store            // other processes' connections

	coincidences *atomic.Int64 // see checkSeen

	throughout map[uuid.UUID]bool            // listed ever since the walk began
	since      map[uuid.UUID]map[string]bool // states a row has had since then
}

var errCrash = errors.New("crashed")

// watch begins to follow the source: what is listed from now on without a gap
// existed throughout.
func (s *scene) watch() {
	s.throughout, s.since = make(map[uuid.UUID]bool), make(map[uuid.UUID]map[string]bool)
	for _, r := range s.sim.Listed(s.org) {
		s.throughout[r.ID] = true
	}
	s.note()
}

// note takes down the present state of everything.
func (s *scene) note() {
	listed := make(map[uuid.UUID]bool)
	for _, r := range s.sim.Listed(s.org) {
		listed[r.ID] = true
		if s.since[r.ID] == nil {
			s.since[r.ID] = make(map[string]bool)
		}
		s.since[r.ID][stateOf(s, r.Units.Consumed, r.Units.Credited, r.Units.Balance, r.ModifiedAt)] = true
	}
	for id := range s.throughout {
		if !listed[id] {
			delete(s.throughout, id)
		}
	}
}

func stateOf(t testing.TB, consumed, credited, balance string, modified time.Time) string {
	return fmt.Sprint(digits(t, consumed), digits(t, credited), digits(t, balance), modified.UTC().Format(time.RFC3339Nano))
}

// before is the simulated Polar's hook: the events of this request happen.
func (s *scene) before(n int, _ *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, e := range s.plan.events {
		if e.request == n {
			s.happen(e)
		}
	}
	s.note()
}

func (s *scene) happen(e event) {
	rows := s.sim.Snapshot(s.org)
	meters := s.sim.Meters(s.org)
	if e.kind == add || e.kind == addLate {
		nm := polarsim.NewCustomerMeter{}
		if e.kind == addLate {
			nm.CreatedAt = s.now().Add(-time.Duration(e.pick%uint64(400*24)) * time.Hour)
		}
		_, _ = s.sim.AddCustomerMeter(s.org, nm) // without meters there is nothing to add
		return
	}
	if len(rows) == 0 || len(meters) == 0 {
		return
	}
	row, meter := rows[e.pick%uint64(len(rows))], meters[e.pick%uint64(len(meters))]
	switch e.kind {
	case consume:
		must1(s.sim.Consume(row.ID, "0.1"))
	case resetUnits:
		must1(s.sim.Reset(row.ID))
	case deleteRow:
		must1(s.sim.DeleteCustomerMeter(row.ID))
	case archive:
		must1(s.sim.ArchiveMeter(meter.ID))
	case unarchive:
		must1(s.sim.UnarchiveMeter(meter.ID))
	case deleteCustomer:
		must1(s.sim.DeleteCustomer(row.CustomerID))
	case renameCustomer:
		must1(s.sim.RenameCustomer(row.CustomerID, fmt.Sprint("renamed ", e.pick)))
	case renameMeter:
		must1(s.sim.RenameMeter(meter.ID, fmt.Sprint("renamed ", e.pick)))
	case addCustomer:
		must1(s.sim.AddOldCustomer(s.org, s.now().Add(-time.Duration(e.pick%uint64(400*24))*time.Hour), 1+int(e.pick%3)))
	case addMeter:
		must1(s.sim.AddOldMeter(s.org, fmt.Sprint("meter ", e.pick), s.now().Add(-24*time.Hour), int(e.pick%5), int(e.pick%2)))
	case flapMeter:
		if meter.ArchivedAt.IsZero() {
			must1(s.sim.ArchiveMeter(meter.ID))
		} else {
			must1(s.sim.UnarchiveMeter(meter.ID))
		}
	case unlist, list:
		must1(s.sim.SetUnlisted(row.ID, e.kind == unlist))
	case consumeLate:
		must1(s.sim.ConsumeLate(row.ID, "0.1", s.now().Add(-5*time.Hour)))
	case clockBack:
		if s.plan.clockMayGoBack {
			s.offset -= time.Hour
		}
	case webhookNow:
		s.deliver(row.JSON)
	case webhookCaptured:
		s.captured = append(s.captured, row.JSON)
	case webhookDelivered:
		// A late delivery of an older state is told from a newer one by its
		// time; with a clock that went back it is not (docs/exactness.md).
		if !s.plan.clockMayGoBack && len(s.captured) > 0 {
			s.deliver(s.captured[e.pick%uint64(len(s.captured))])
		}
	case crash:
		s.crash()
	case answerLost:
		s.net.loseAnswer.Store(true)
	case requestLost:
		s.net.loseRequest.Store(true)
	}
}

func (s *scene) now() time.Time { return time.Now().Add(s.offset) }

// deliver applies a webhook's customer meter from another connection.
func (s *scene) deliver(json string) {
	m, _, err := polar.DecodeCustomerMeter([]byte(json))
	if err != nil || m == nil {
		s.Fatalf("webhook payload %s: %v", json, err)
	}
	if _, err := s.others.Apply(context.Background(), s.org, store.Webhook, &store.Block{CustomerMeters: []*polar.CustomerMeter{m}}); err != nil {
		s.Fatal(err)
	}
}

// crash ends the process without a last word: its connection is cut at the
// server first, so that nothing it still tries is written.
func (s *scene) crash() {
	s.db.Disconnect(s, pgtest.LockHolders+` AND classid::bigint = $1 AND objid::bigint = $2`, lockHalves(s.org)[0], lockHalves(s.org)[1])
	s.kill(errCrash)
}

// run starts a process that makes one full run, again after each crash, until
// a run has ended. It returns that run's error.
func (s *scene) run() error {
	for {
		ctx, kill := context.WithCancelCause(context.Background())
		s.mu.Lock()
		s.kill = kill
		s.mu.Unlock()
		m := s.mirror(func(o *Options) {
			o.PageSize, o.PagesInFlight, o.BlockRows = s.plan.page, s.plan.width, s.plan.block
			o.MaxDeleteFraction = 1
			o.WalkedRows = s.plan.walkedRows()
		})
		w := m.worker(m.opts.Organizations[0])
		err := w.withSession(ctx, true, func(session *store.Session) error {
			tick := func(saved func(context.Context) error) {
				if saved(ctx) == nil {
					_ = w.tick(ctx, session, time.Time{}, true) // its failure is its own
				}
			}
			err := w.full(ctx, session, fullOptions{kind: store.Full, archivedChecks: fewArchivedChecks, between: tick})
			return err
		})
		crashed := errors.Is(context.Cause(ctx), errCrash) || store.Broken(err)
		kill(nil)
		if !crashed {
			return err
		}
	}
}

func TestClaimsHoldWhateverHappens(t *testing.T) {
	t.Parallel()
	shared := newEnv(t, polarsim.Options{})
	network := &fragileNet{}
	fragile, err := store.Open(t.Context(), store.Options{URL: secret.New(shared.db.URL), Dial: network.dial})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(fragile.Close)
	var coincidences atomic.Int64
	defer func() {
		t.Logf("sweeps that missed a row while another left the list, which a rank check cannot see: %d", coincidences.Load())
	}()
	rapid.Check(t, func(rt *rapid.T) {
		p := drawPlan(rt)
		s := &scene{plan: p, kill: func(error) {}, net: network, others: shared.store, coincidences: &coincidences}
		// Cases share a database, so each has an organization and ids of its own.
		org := uuid.New()
		sim := polarsim.New(polarsim.Options{Seed: p.seed ^ binary.BigEndian.Uint64(org[:8]), Now: func() time.Time { return s.now() },
			Organizations: []polarsim.Organization{{Name: org.String(), ID: org, CustomerMeters: p.rows, Meters: p.meters}}})
		s.env = &env{TB: shared.TB, sim: sim, store: fragile, db: shared.db, orgs: sim.Organizations()}
		s.org = org
		s.check(rt)
	})
}

func (s *scene) check(rt *rapid.T) {
	for i, meter := range s.sim.Meters(s.org) {
		if s.plan.seed>>i&1 == 1 { // some meters are archived to begin with
			must1(s.sim.ArchiveMeter(meter.ID))
		}
	}
	if s.plan.earlier != nil {
		m := s.mirror(func(o *Options) { o.WalkedRows = s.plan.walkedRows() })
		m.notices = nil // which would wait for a second to pass
		if err := m.Backfill(context.Background()); err != nil {
			rt.Fatalf("load: %v", err)
		}
		for _, e := range s.plan.earlier {
			if e.kind < crash {
				s.happen(e)
			}
		}
	}
	s.watch()
	s.sim.Before(s.before)
	err := s.run()
	s.sim.Before(nil)
	s.net.loseAnswer.Store(false)
	s.net.loseRequest.Store(false)
	s.mu.Lock()
	s.note()
	s.mu.Unlock()
	if err == nil {
		s.checkSeen(rt)
	} else if !errors.Is(err, ErrNotProven) && !errors.Is(err, errBlind) && !isDeletion(err) {
		rt.Fatalf("run failed: %v", err)
	}
	s.checkDeleted(rt)

	// The source rests.
	s.value(`WITH aged AS (UPDATE polar.customer_meters SET first_seen_at = first_seen_at - interval '1 hour' WHERE organization_id = $1 RETURNING 1)
SELECT count(*)::text FROM aged`, s.org)
	for _, r := range s.sim.Snapshot(s.org) {
		must1(s.sim.SetUnlisted(r.ID, false))
	}
	m := s.mirror(func(o *Options) {
		o.PageSize, o.AcceptDeletions, o.WalkedRows = s.plan.page, true, s.plan.walkedRows()
	})
	m.notices = nil // which would wait for a second to pass
	if err := m.Backfill(context.Background()); err != nil {
		rt.Fatalf("run at rest failed: %v", err)
	}
	s.checkDeleted(rt)
	if diff := s.difference(s.orgs[0]); diff != "" {
		rt.Fatalf("mirror differs at rest (-Polar +mirror):\n%s", diff)
	}
}

func isDeletion(err error) bool {
	var refused *DeletionError
	return errors.As(err, &refused)
}

// checkSeen: no row that existed throughout is missing or old. The one thing that a
// sweep cannot see is a row that nobody had seen while as many others, which it had
// counted, left the list behind its back; that is counted.
func (s *scene) checkSeen(rt *rapid.T) {
	got := make(map[uuid.UUID]string)
	rows, err := s.db.Pool.Query(context.Background(), `
SELECT id, consumed_units::text, credited_units::text, balance::text, coalesce(modified_at, '0001-01-01 00:00:00+00')
  FROM polar.customer_meters WHERE organization_id = $1 AND deleted_at IS NULL`, s.org)
	if err != nil {
		rt.Fatal(err)
	}
	for rows.Next() {
		var id uuid.UUID
		var consumed, credited, balance string
		var modified time.Time
		if err := rows.Scan(&id, &consumed, &credited, &balance, &modified); err != nil {
			rt.Fatal(err)
		}
		got[id] = stateOf(s, consumed, credited, balance, modified)
	}
	if rows.Err() != nil {
		rt.Fatal(rows.Err())
	}
	var missing []uuid.UUID
	for id := range s.throughout {
		state, there := got[id]
		if !there {
			missing = append(missing, id)
			continue
		}
		if !s.since[id][state] {
			rt.Fatalf("%s has a state from before the run: %s, want one of %v", id, state, s.since[id])
		}
	}
	if len(missing) == 0 {
		return
	}
	// Counted are the rows that the run saw, and took for listed to its end.
	counted, err := pgx.CollectRows(must1(s.db.Pool.Query(context.Background(), `
SELECT m.id
  FROM polar.customer_meters m
  JOIN polar.meters t ON t.id = m.meter_id
 WHERE m.organization_id = $1 AND m.deleted_at IS NULL AND t.archived_at IS NULL`, s.org)), pgx.RowTo[uuid.UUID])
	if err != nil {
		rt.Fatal(err)
	}
	listed := make(map[uuid.UUID]bool)
	for _, r := range s.sim.Listed(s.org) {
		listed[r.ID] = true
	}
	vanished := 0
	for _, id := range counted {
		if s.since[id] != nil && !listed[id] {
			vanished++
		}
	}
	if !s.plan.sweep || len(missing) > vanished {
		rt.Fatalf("%v existed throughout an exact run and are missing; %d rows left the list", missing, vanished)
	}
	s.coincidences.Add(1)
}

// checkDeleted: no row is marked deleted that Polar still has.
func (s *scene) checkDeleted(rt *rapid.T) {
	rows, err := s.db.Pool.Query(context.Background(), `
SELECT id FROM polar.customer_meters WHERE organization_id = $1 AND deleted_at IS NOT NULL`, s.org)
	if err != nil {
		rt.Fatal(err)
	}
	defer rows.Close()
	for rows.Next() {
		var id uuid.UUID
		if err := rows.Scan(&id); err != nil {
			rt.Fatal(err)
		}
		if _, there := s.sim.Find(id); there {
			rt.Fatalf("%s is marked deleted and Polar has it", id)
		}
	}
}
