package mirror

import (
	"context"
	"encoding/json"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"polarmirror/internal/pgtest"
	"polarmirror/internal/store"
)

// A listener is a program that listens for changes and reads when it is told of
// one.
type listener struct {
	*env
	conn *pgx.Conn
	read string // what it reads
}

// A heard is one notification, and what the listener then read.
type heard struct {
	store.Notification
	Read  string
	times int // notifications that it sums up
}

func (w *env) listen(read string) *listener {
	w.Helper()
	conn, err := pgx.Connect(w.Context(), w.db.URL)
	if err != nil {
		w.Fatal(err)
	}
	w.Cleanup(func() { _ = conn.Close(context.Background()) })
	if _, err := conn.Exec(w.Context(), `LISTEN polar_customer_meters`); err != nil {
		w.Fatal(err)
	}
	return &listener{w, conn, read}
}

// next waits for the next notification.
func (l *listener) next() heard {
	l.Helper()
	ctx, cancel := context.WithTimeout(l.Context(), 2*time.Minute)
	defer cancel()
	n, err := l.conn.WaitForNotification(ctx)
	if err != nil {
		l.Fatalf("no notification: %v", err)
	}
	var h heard
	if err := json.Unmarshal([]byte(n.Payload), &h.Notification); err != nil {
		l.Fatalf("%s: %v", n.Payload, err)
	}
	h.Read, h.times = l.value(l.read), 1
	return h
}

// total waits until it was told of so many rows and returns the sum.
func (l *listener) total(rows int64) heard {
	l.Helper()
	sum := l.next()
	for sum.RowsInserted+sum.RowsUpdated+sum.RowsDeleted < rows {
		h := l.next()
		h.RowsInserted += sum.RowsInserted
		h.RowsUpdated += sum.RowsUpdated
		h.RowsDeleted += sum.RowsDeleted
		h.CustomerIDs = append(h.CustomerIDs, sum.CustomerIDs...)
		h.MoreCustomers = h.MoreCustomers || sum.MoreCustomers
		h.times += sum.times
		sum = h
	}
	return sum
}

// none fails if there is a notification that was sent before now.
func (l *listener) none() {
	l.Helper()
	if _, err := l.db.Pool.Exec(l.Context(), `SELECT pg_notify('polar_customer_meters', 'end')`); err != nil {
		l.Fatal(err)
	}
	n, err := l.conn.WaitForNotification(l.Context())
	if err != nil {
		l.Fatal(err)
	}
	if n.Payload != "end" {
		l.Errorf("told though nothing changed: %s", n.Payload)
	}
}

func TestListenersAreToldOfWalksTicksAndRepairsOnceTheyCanReadThem(t *testing.T) {
	t.Parallel()
	w := quiet(t, 3000, 0.3)
	l := w.listen(`SELECT count(*)::text FROM polar.customer_meters WHERE deleted_at IS NULL`)

	w.backfill(func(o *Options) { o.BlockRows = 500 })
	inserted := int64(0)
	for inserted < 3000 {
		h := l.next()
		if h.Organization != "acme" || h.OrganizationID != w.orgs[0].ID || h.Kind != store.Full || h.RunID == 0 {
			t.Fatalf("told %+v", h)
		}
		if n := len(h.CustomerIDs); n == 0 || n > store.MaxNotified || h.MoreCustomers && n < store.MaxNotified {
			t.Fatalf("told of %d customers, and that there are more: %v", len(h.CustomerIDs), h.MoreCustomers)
		}
		inserted += h.RowsInserted
		if got := w.value(`SELECT ($1::bigint >= $2::bigint)::text`, h.Read, inserted); got != "true" {
			t.Fatalf("told of %d rows, read %s", inserted, h.Read)
		}
	}
	w.backfill()
	l.none()

	l.read = `SELECT consumed_units::text FROM polar.customer_meters WHERE id = '` + w.sim.Listed(w.orgs[0].ID)[7].ID.String() + `'`
	changed := must1(w.sim.Consume(w.sim.Listed(w.orgs[0].ID)[7].ID, "3.25"))
	m := w.mirror()
	wk := m.worker(m.opts.Organizations[0])
	tick := func() {
		t.Helper()
		err := wk.withSession(w.Context(), false, func(s *store.Session) error { return wk.tick(w.Context(), s, time.Time{}, false) })
		if err != nil {
			t.Fatal(err)
		}
		m.notices.start(w.Context())()
	}
	tick()
	if h := l.next(); h.Kind != store.Incremental || h.RowsUpdated != 1 || digits(t, h.Read) != digits(t, changed.Units.Consumed) {
		t.Errorf("after a tick: told %+v, want one row with %s", h, changed.Units.Consumed)
	} else if diff := cmp.Diff([]uuid.UUID{changed.CustomerID}, h.CustomerIDs); diff != "" || h.MoreCustomers {
		t.Errorf("after a tick: customers (-want +told), and more %v:\n%s", h.MoreCustomers, diff)
	}
	tick()
	l.none()

	w.value(`UPDATE polar.customer_meters SET first_seen_at = first_seen_at - interval '1 hour' RETURNING 'x'`)
	// Somebody tampers with the mirror, and a row disappears at Polar.
	w.value(`UPDATE polar.customer_meters SET balance = balance + 1 WHERE id = $1 RETURNING id::text`, w.sim.Listed(w.orgs[0].ID)[20].ID)
	tampered, missing := w.sim.Listed(w.orgs[0].ID)[20].CustomerID, w.sim.Listed(w.orgs[0].ID)[9].CustomerID
	gone := w.sim.Listed(w.orgs[0].ID)[9].ID
	must1(w.sim.DeleteCustomerMeter(gone))
	l.read = `SELECT count(*)::text FROM polar.customer_meters WHERE deleted_at IS NULL`
	if _, err := w.mirror().Verify(w.Context(), true); err != nil {
		t.Fatal(err)
	}
	if h := l.total(2); h.Kind != store.Repair || h.RowsUpdated != 1 || h.RowsDeleted != 1 || h.Read != "2999" {
		t.Errorf("after a repair: told %+v, want one updated and one deleted row", h)
	} else if h.MoreCustomers || !slices.Contains(h.CustomerIDs, tampered) || !slices.Contains(h.CustomerIDs, missing) {
		t.Errorf("after a repair: told %+v, want customers %s and %s", h, tampered, missing)
	}
	l.none()
}

func TestListenersAreToldOfDeletionsThatAWalkFound(t *testing.T) {
	t.Parallel()
	w := small(t, 150)
	w.backfill()
	w.value(`UPDATE polar.customer_meters SET first_seen_at = first_seen_at - interval '1 hour' RETURNING 'x'`)
	must1(w.sim.DeleteCustomerMeter(w.sim.Listed(w.orgs[0].ID)[9].ID))
	l := w.listen(`SELECT count(*)::text FROM polar.customer_meters WHERE deleted_at IS NULL`)
	w.backfill()
	if h := l.next(); h.Kind != store.Full || h.RowsDeleted != 1 || h.Read != "149" {
		t.Errorf("told %+v, want one deleted row", h)
	}
	l.none()
}

// TestListenersAreToldOfWhatADeadProcessWrote: it died between its block and the
// notification.
func TestListenersAreToldOfWhatADeadProcessWrote(t *testing.T) {
	t.Parallel()
	w := small(t, 60)
	l := w.listen(`SELECT status FROM polar.sync_runs WHERE id = 1`)
	dying, err := pgtest.OpenStore(t, w.db).Acquire(t.Context(), w.register(), true)
	if err != nil {
		t.Fatal(err)
	}
	dead, err := dying.StartRun(t.Context(), store.Full, time.Time{})
	if err != nil {
		t.Fatal(err)
	}
	w.value(`UPDATE polar.sync_runs SET rows_updated = 5 WHERE id = $1 RETURNING 'x'`, dead.ID)
	dying.Release()
	w.backfill()
	if h := l.total(65); h.RowsUpdated != 5 || h.RowsInserted != 60 || h.Read != "abandoned" || !h.MoreCustomers {
		t.Errorf("told %+v, want the 5 rows that the dead process updated among them", h)
	}
}

func TestChangesThatFollowEachOtherAreToldTogether(t *testing.T) {
	t.Parallel()
	w := small(t, 10)
	w.register()
	l := w.listen(`SELECT 'x'`)
	m := w.mirror()
	for range 500 {
		m.notify(m.opts.Organizations[0], 0, store.Webhook, store.Counts{RowsUpdated: 1}, nil)
	}
	m.notify(m.opts.Organizations[0], 0, store.Full, store.Counts{RowsUnchanged: 1}, nil)
	m.notices.start(t.Context())()
	if h := l.total(500); h.RowsUpdated != 500 || h.times > 3 {
		t.Errorf("told of %d changes in %d notifications", h.RowsUpdated, h.times)
	}
	l.none()
}

// TestNotificationThatCannotBeSentDoesNotHoldUpTheEnd, and later ones are sent.
func TestNotificationThatCannotBeSentDoesNotHoldUpTheEnd(t *testing.T) {
	t.Parallel()
	w := small(t, 10)
	w.register()
	l := w.listen(`SELECT 'x'`)
	m := w.mirror()
	updated := func(rows int64) {
		m.notify(m.opts.Organizations[0], 0, store.Webhook, store.Counts{RowsUpdated: rows}, nil)
	}
	lock, err := w.db.Pool.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := lock.Exec(t.Context(), `LOCK polar.notifications`); err != nil {
		t.Fatal(err)
	}
	updated(1)
	stopped, stop := context.WithCancel(t.Context())
	stop()
	m.notices.start(stopped)()
	if err := lock.Rollback(t.Context()); err != nil {
		t.Fatal(err)
	}
	updated(2)
	m.notices.start(t.Context())()
	h := l.next()
	if h.RowsUpdated == 1 { // the server may have gone on with what was given up
		h = l.next()
	}
	if h.RowsUpdated != 2 {
		t.Errorf("told %+v, want the two rows that were updated last", h)
	}
	l.none()
}
