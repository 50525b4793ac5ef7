package store_test

import (
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"

	"polarmirror/internal/pgtest"
	"polarmirror/internal/store"
)

// inbox is a fresh mirror that knows the organization.
func inbox(t testing.TB) (*store.Store, *pgtest.Database) {
	t.Helper()
	st, db := pgtest.NewStore(t)
	if err := st.RegisterOrganization(t.Context(), organization, "acme"); err != nil {
		t.Fatal(err)
	}
	return st, db
}

// delivery is the n-th of a customer, sent n seconds after the epoch.
func delivery(n, customer int) *store.Delivery {
	return &store.Delivery{
		Organization: organization,
		ID:           fmt.Sprintf("msg_%03d", n),
		Type:         "customer.state_changed",
		Customer:     numbered('c', customer),
		SentAt:       epoch.Add(time.Duration(n) * time.Second),
		Status:       store.DeliveryPending,
		Payload:      fmt.Appendf(nil, "body \x00\xff %d", n),
	}
}

func keep(t testing.TB, st *store.Store, deliveries ...*store.Delivery) {
	t.Helper()
	for _, d := range deliveries {
		if fresh, err := st.SaveDelivery(t.Context(), d); err != nil || !fresh {
			t.Fatalf("delivery %s kept: %v (%v)", d.ID, fresh, err)
		}
	}
}

// process claims up to limit due deliveries and gives all of them the result status.
func process(t testing.TB, st *store.Store, limit int, status store.DeliveryStatus) []string {
	t.Helper()
	ids := []string{}
	err := st.ProcessDeliveries(t.Context(), organization, limit, func(c *store.Claim) ([]store.DeliveryResult, error) {
		var results []store.DeliveryResult
		for _, d := range c.Deliveries {
			ids = append(ids, d.ID)
			results = append(results, store.DeliveryResult{Status: status})
		}
		return results, nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return ids
}

func TestRepeatedDeliveryChangesNothing(t *testing.T) {
	t.Parallel()
	st, db := inbox(t)
	keep(t, st, delivery(1, 1))
	again := delivery(1, 2)
	again.Payload = []byte("other")
	if fresh, err := st.SaveDelivery(t.Context(), again); err != nil || fresh {
		t.Errorf("a repetition is fresh: %v (%v)", fresh, err)
	}
	if got := lookup(t, db, `SELECT encode(payload, 'escape') FROM polar.webhook_events`); got != `body \000\377 1` {
		t.Errorf("kept: %s", got)
	}
}

func TestDeliveriesAreClaimedOldestFirstAndOnePerCustomer(t *testing.T) {
	t.Parallel()
	st, _ := inbox(t)
	keep(t, st, delivery(5, 1), delivery(2, 1), delivery(3, 2), delivery(4, 3), delivery(1, 3))
	for _, want := range [][]string{{"msg_001", "msg_002"}, {"msg_003", "msg_004"}, {"msg_005"}, {}} {
		if diff := cmp.Diff(want, process(t, st, 2, store.DeliveryApplied)); diff != "" {
			t.Errorf("claimed (-want +got):\n%s", diff)
		}
	}
}

// TestClaimedDeliveriesAreOutOfOthersSight also for the later ones of a customer.
func TestClaimedDeliveriesAreOutOfOthersSight(t *testing.T) {
	t.Parallel()
	st, _ := inbox(t)
	keep(t, st, delivery(1, 1), delivery(2, 1), delivery(3, 2))
	err := st.ProcessDeliveries(t.Context(), organization, 1, func(*store.Claim) ([]store.DeliveryResult, error) {
		if got := process(t, st, 9, store.DeliveryApplied); len(got) != 1 || got[0] != "msg_003" {
			t.Errorf("another replica claimed %v, want the delivery of the other customer", got)
		}
		return []store.DeliveryResult{{Status: store.DeliveryApplied}}, nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"msg_002"}, process(t, st, 9, store.DeliveryApplied)); diff != "" {
		t.Errorf("left over (-want +got):\n%s", diff)
	}
}

func TestFailureInTheMiddleLeavesDeliveriesAndMirrorAsTheyWere(t *testing.T) {
	t.Parallel()
	st, db := inbox(t)
	keep(t, st, delivery(1, 1))
	broken := errors.New("the process dies here")
	err := st.ProcessDeliveries(t.Context(), organization, 9, func(c *store.Claim) ([]store.DeliveryResult, error) {
		if _, _, err := c.Apply(t.Context(), []*store.Change{{Customer: sample(t, 1).Customer}}); err != nil {
			t.Fatal(err)
		}
		return nil, broken
	})
	if !errors.Is(err, broken) {
		t.Fatal(err)
	}
	if got := lookup(t, db, `SELECT concat_ws(' ', status, attempts, (SELECT count(*) FROM polar.customers)) FROM polar.webhook_events`); got != "pending 0 0" {
		t.Errorf("status, attempts, customers: %s", got)
	}
}

func TestProcessedDeliveriesKeepTheirPayloadOnlyIfItIsStillOfUse(t *testing.T) {
	t.Parallel()
	st, db := inbox(t)
	for n, want := range map[int]struct {
		result store.DeliveryResult
		row    string
	}{
		1: {store.DeliveryResult{Status: store.DeliveryApplied}, "applied 1 t f f -"},
		2: {store.DeliveryResult{Status: store.DeliveryIgnored}, "ignored 1 f f f -"},
		3: {store.DeliveryResult{Status: store.DeliveryFailed, Error: "bad\x00"}, "failed 1 f t f bad\uFFFD"},
		4: {store.DeliveryResult{Status: store.DeliveryPending, Error: "later", Wait: time.Hour}, "pending 1 f t t later"},
		5: {store.DeliveryResult{Status: store.DeliveryPending, Wait: time.Hour}, "pending 0 f t t -"}, // no attempt
	} {
		keep(t, st, delivery(n, n))
		err := st.ProcessDeliveries(t.Context(), organization, 1, func(*store.Claim) ([]store.DeliveryResult, error) {
			return []store.DeliveryResult{want.result}, nil
		})
		if err != nil {
			t.Fatal(err)
		}
		got := lookup(t, db, `
SELECT concat_ws(' ', status, attempts, applied_at IS NOT NULL, payload IS NOT NULL, coalesce(next_attempt_at > now() + interval '50 minutes', false), coalesce(error, '-'))
  FROM polar.webhook_events WHERE webhook_id = $1`, delivery(n, n).ID)
		if got != want.row {
			t.Errorf("after the result %s: %q, want %q", want.result.Status, got, want.row)
		}
	}
	if got, err := st.DueOrganizations(t.Context()); err != nil || len(got) != 0 {
		t.Errorf("due: %v (%v), want none: nothing's time has come", got, err)
	}
}

// TestReceivingWaitsForTheDiskAndApplyingDoesNot looks at the setting through a
// trigger that notes it.
func TestReceivingWaitsForTheDiskAndApplyingDoesNot(t *testing.T) {
	t.Parallel()
	st, db := pgtest.NewStore(t)
	if err := st.RegisterOrganization(t.Context(), organization, "acme"); err != nil {
		t.Fatal(err)
	}
	const watch = `
CREATE TABLE public.seen (operation text, setting text);
CREATE FUNCTION public.look() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO public.seen VALUES (TG_OP, current_setting('synchronous_commit'));
    RETURN NULL;
END $$;
CREATE TRIGGER look AFTER INSERT OR UPDATE ON polar.webhook_events FOR EACH ROW EXECUTE FUNCTION public.look()`
	if _, err := db.Pool.Exec(t.Context(), watch); err != nil {
		t.Fatal(err)
	}
	keep(t, st, delivery(1, 1))
	process(t, st, 1, store.DeliveryApplied)
	const seen = `SELECT string_agg(operation || ' ' || setting, ', ' ORDER BY operation) FROM public.seen`
	if got, want := lookup(t, db, seen), "INSERT on, UPDATE off"; got != want {
		t.Errorf("operations and settings: %s, want %s", got, want)
	}
}

func TestDueOrganizationsAreThoseWithDeliveriesToApply(t *testing.T) {
	t.Parallel()
	st, _ := inbox(t)
	other := numbered('o', 2)
	if err := st.RegisterOrganization(t.Context(), other, "globex"); err != nil {
		t.Fatal(err)
	}
	ignored := delivery(9, 9)
	ignored.Organization, ignored.Status = other, store.DeliveryIgnored
	keep(t, st, delivery(1, 1), delivery(2, 2), ignored)
	got, err := st.DueOrganizations(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]uuid.UUID{organization}, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestOldDeliveriesAreForgotten(t *testing.T) {
	t.Parallel()
	st, db := inbox(t)
	keep(t, st, delivery(1, 1), delivery(2, 2))
	if _, err := db.Pool.Exec(t.Context(), `UPDATE polar.webhook_events SET received_at = now() - interval '31 days' WHERE webhook_id = 'msg_001'`); err != nil {
		t.Fatal(err)
	}
	if err := st.Maintain(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := lookup(t, db, `SELECT string_agg(webhook_id, ' ') FROM polar.webhook_events`); got != "msg_002" {
		t.Errorf("left: %s", got)
	}
}

// TestReplicasShareTheInbox: every delivery is claimed once.
func TestReplicasShareTheInbox(t *testing.T) {
	t.Parallel()
	st, _ := inbox(t)
	const n = 200
	for i := range n {
		keep(t, st, delivery(i, i%40))
	}
	var mu sync.Mutex
	claimed := map[string]int{}
	var replicas sync.WaitGroup
	for range 4 {
		replicas.Go(func() {
			for idle := 0; idle < 3; {
				ids := process(t, st, 7, store.DeliveryApplied)
				idle++
				mu.Lock()
				for _, id := range ids {
					claimed[id]++
					idle = 0
				}
				mu.Unlock()
			}
		})
	}
	replicas.Wait()
	for len(process(t, st, 7, store.DeliveryApplied)) > 0 {
		t.Log("left over by replicas that found everything locked")
	}
	for id, times := range claimed {
		if times != 1 {
			t.Errorf("%s was claimed %d times", id, times)
		}
	}
}
