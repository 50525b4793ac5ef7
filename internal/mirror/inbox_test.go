package mirror

import (
	"bytes"
	"context"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"

	"polarmirror/internal/polar"
	"polarmirror/internal/polarsim"
	"polarmirror/internal/store"
)

// inbox returns the inbox of a newly started process, and the results that it
// reports.
func (w *env) inbox(changes ...func(*Options)) (*Inbox, *reported) {
	w.Helper()
	r := &reported{}
	m := w.mirror(append(changes, func(o *Options) { o.Observer = r })...)
	return m.Inbox(10 * time.Millisecond), r
}

// reported are the results that an inbox has reported.
type reported struct {
	noObserver
	mu      sync.Mutex
	results []store.DeliveryResult
	ahead   bool // a delivery was applied before it was sent
}

func (r *reported) WebhookProcessed(_ string, result store.DeliveryResult, delay time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.results = append(r.results, result)
	r.ahead = r.ahead || delay < 0
}

// first waits until there are so many results and returns all: each is reported
// after the database shows it.
func (r *reported) first(w *env, n int) []store.DeliveryResult {
	w.Helper()
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(2 * time.Millisecond) {
		r.mu.Lock()
		results := slices.Clone(r.results)
		r.mu.Unlock()
		if len(results) >= n {
			return results
		}
		if time.Now().After(deadline) {
			w.Fatalf("reported %+v, want %d", results, n)
		}
	}
}

// deliver has the inbox receive an event about a customer as it is now, changed
// by edits of its body, and returns its webhook-id.
func (w *env) deliver(i *Inbox, customer uuid.UUID, eventType string, edits ...string) string {
	w.Helper()
	body := must1(w.sim.CustomerEvent(customer, eventType))
	if len(edits) > 0 {
		edited := []byte(strings.NewReplacer(edits...).Replace(string(body)))
		if bytes.Equal(body, edited) {
			w.Fatalf("the edits %q found nothing", edits)
		}
		body = edited
	}
	return w.receive(i, w.orgs[0].Name, body)
}

func (w *env) receive(i *Inbox, organization string, body []byte) string {
	w.Helper()
	id := "msg_" + uuid.NewString()
	fresh, err := i.Receive(w.Context(), Delivery{Organization: organization, ID: id, SentAt: time.Now(), Body: body})
	if err != nil || !fresh {
		w.Fatalf("received: %v (%v)", fresh, err)
	}
	return id
}

// applying applies what an inbox has until the test ends.
func (w *env) applying(i *Inbox) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	var serving sync.WaitGroup
	serving.Go(func() { must1(0, i.Serve(ctx)) })
	stop = sync.OnceFunc(func() {
		cancel()
		serving.Wait()
	})
	w.Cleanup(stop)
	return stop
}

// becomes waits until a query says what it should.
func (w *env) becomes(want, sql string, args ...any) {
	w.Helper()
	got := ""
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); time.Sleep(2 * time.Millisecond) {
		if got = w.value(sql, args...); got == want {
			return
		}
	}
	w.Fatalf("%s: %s, want %s", sql, got, want)
}

func (w *env) exec(sql string, args ...any) {
	w.Helper()
	if _, err := w.db.Pool.Exec(w.Context(), sql, args...); err != nil {
		w.Fatal(err)
	}
}

const fate = `SELECT concat_ws(' ', status, error) FROM polar.webhook_events WHERE webhook_id = $1`

const unprocessed = `SELECT count(*)::text FROM polar.webhook_events WHERE status = 'pending'`

func TestWebhookBringsTheStateOfACustomer(t *testing.T) {
	t.Parallel()
	w := small(t, 200)
	w.backfill()
	floor := w.value(`SELECT floor_at::text FROM polar.tick_floors`)
	row := w.sim.Listed(w.orgs[0].ID)[17]
	must1(w.sim.Consume(row.ID, "12.345678"))
	must1(w.sim.RenameCustomer(row.CustomerID, "Renamed"))
	inbox, reported := w.inbox()
	l := w.listen(`SELECT 'x'`)
	w.sim.ForgetRequests()
	w.deliver(inbox, row.CustomerID, polarsim.CustomerStateChanged)
	w.applying(inbox)
	w.becomes("0", unprocessed)
	w.same()
	if w.sim.RequestCount() > 0 {
		t.Errorf("%d requests for what the delivery says", w.sim.RequestCount())
	}
	if got := w.value(`SELECT floor_at::text FROM polar.tick_floors`); got != floor {
		t.Errorf("the tick's floor moved from %s to %s", floor, got)
	}
	if got := reported.first(w, 1); len(got) != 1 || got[0].Status != store.DeliveryApplied || reported.ahead {
		t.Errorf("reported %+v", got)
	}
	if h := l.total(1); h.Kind != store.Webhook || h.RowsUpdated != 1 || h.RowsInserted != 0 {
		t.Errorf("listeners were told %+v, want one updated row", h)
	}
}

func TestWebhooksAboutTheCustomerItself(t *testing.T) {
	t.Parallel()
	w := small(t, 50)
	w.backfill()
	row := w.sim.Listed(w.orgs[0].ID)[3]
	inbox, _ := w.inbox()
	w.applying(inbox)
	must1(w.sim.RenameCustomer(row.CustomerID, "Ärger & Söhne"))
	w.deliver(inbox, row.CustomerID, polarsim.CustomerUpdated)
	w.becomes("Ärger & Söhne", `SELECT name FROM polar.customers WHERE id = $1`, row.CustomerID)
	must1(w.sim.DeleteCustomer(row.CustomerID))
	w.deliver(inbox, row.CustomerID, polarsim.CustomerDeleted)
	w.becomes("true", `SELECT (deleted_at = modified_at)::text FROM polar.customers WHERE id = $1`, row.CustomerID)
	early := w.sim.Listed(w.orgs[0].ID)[9].CustomerID
	w.deliver(inbox, early, polarsim.CustomerDeleted) // whose field does not say so yet
	w.becomes("true", `SELECT (deleted_at IS NOT NULL)::text FROM polar.customers WHERE id = $1`, early)
	added := must1(w.sim.AddCustomerMeter(w.orgs[0].ID, polarsim.NewCustomerMeter{}))
	w.deliver(inbox, added.CustomerID, polarsim.CustomerCreated)
	w.becomes("1", `SELECT count(*)::text FROM polar.customers WHERE id = $1`, added.CustomerID)
	w.becomes("0", unprocessed)
}

// TestCustomerAsSentIsNotWrittenAgainByTheNextWalk: a webhook renders it as a
// list does.
func TestCustomerAsSentIsNotWrittenAgainByTheNextWalk(t *testing.T) {
	t.Parallel()
	w := small(t, 50)
	w.backfill()
	row := w.sim.Listed(w.orgs[0].ID)[3]
	must1(w.sim.RenameCustomer(row.CustomerID, "Renamed"))
	inbox, _ := w.inbox()
	w.applying(inbox)
	w.deliver(inbox, row.CustomerID, polarsim.CustomerStateChanged)
	w.becomes("0", unprocessed)
	const version = `SELECT xmin::text || ctid::text FROM polar.customers WHERE id = $1`
	before := w.value(version, row.CustomerID)
	w.backfill()
	if got := w.value(version, row.CustomerID); got != before {
		t.Error("the walk wrote the customer again")
	}
}

func TestOrganizationWithoutAnInboxReceivesNothing(t *testing.T) {
	t.Parallel()
	w := small(t, 10)
	inbox, _ := w.inbox()
	if _, err := inbox.Receive(t.Context(), Delivery{Organization: "nobody", ID: "msg_1", SentAt: time.Now(), Body: []byte(`{"type":"x"}`)}); err == nil {
		t.Error("received")
	}
}

// TestWebhookIsReceivedBeforeAnyRun: the database does not know the organization
// yet, nor any meter.
func TestWebhookIsReceivedBeforeAnyRun(t *testing.T) {
	t.Parallel()
	w := small(t, 20)
	inbox, _ := w.inbox()
	w.applying(inbox)
	for _, c := range w.sim.Customers(w.orgs[0].ID) {
		w.deliver(inbox, c.ID, polar.CustomerStateChanged)
	}
	w.becomes("0", unprocessed)
	w.same()
}

// TestWebhookOutlivesALackOfPartitions: the fault is not the delivery's.
func TestWebhookOutlivesALackOfPartitions(t *testing.T) {
	t.Parallel()
	w := small(t, 50)
	w.backfill()
	row := w.sim.Listed(w.orgs[0].ID)[3]
	w.exec(`
DO $$
DECLARE
    month regclass;
BEGIN
    FOR month IN SELECT inhrelid FROM pg_catalog.pg_inherits WHERE inhparent = 'polar.customer_meter_history'::regclass LOOP
        EXECUTE format('DROP TABLE %s', month);
    END LOOP;
END $$`)
	must1(w.sim.Consume(row.ID, "1"))
	inbox, reports := w.inbox()
	w.deliver(inbox, row.CustomerID, polarsim.CustomerStateChanged)
	worker := inbox.workers[w.orgs[0].Name]
	if err := worker.applyDue(t.Context()); err == nil || len(reports.first(w, 0)) > 0 {
		t.Errorf("without partitions: %v, %+v", err, reports.first(w, 0))
	}
	if err := w.store.Maintain(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := worker.applyDue(t.Context()); err != nil {
		t.Error(err)
	}
	w.same()
}
