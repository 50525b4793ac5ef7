package store_test

import (
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"

	"polarmirror/internal/pgtest"
	"polarmirror/internal/polar"
	"polarmirror/internal/store"
)

// apply applies changes as one claim of one delivery.
func apply(t testing.TB, st *store.Store, changes ...*store.Change) (store.Counts, []store.Effect) {
	t.Helper()
	d := delivery(1, 1)
	d.ID = uuid.NewString()
	keep(t, st, d)
	var saved store.Saved
	var effects []store.Effect
	err := st.ProcessDeliveries(t.Context(), organization, 1, func(c *store.Claim) (results []store.DeliveryResult, err error) {
		saved, effects, err = c.Apply(t.Context(), changes)
		return []store.DeliveryResult{{Status: store.DeliveryApplied}}, err
	})
	if err != nil {
		t.Fatal(err)
	}
	return saved.Counts, effects
}

// told is what a delivery says: no meter, and nothing unknown.
func told(m *polar.CustomerMeter) *store.Change {
	row := *m
	row.Meter, row.Extra = nil, nil
	return &store.Change{Customer: row.Customer, CustomerMeters: rows(&row)}
}

// edited returns a customer meter with a copy of its customer, changed.
func edited(m *polar.CustomerMeter, change func(*polar.Customer)) *polar.CustomerMeter {
	row, customer := *m, *m.Customer
	change(&customer)
	customer.Raw = fmt.Appendf(nil, `{"id":%q,"name":%q,"at":%q}`, customer.ID, *customer.Name, customer.ModifiedAt)
	row.Customer = &customer
	return &row
}

// mirrored is a mirror with a few rows.
func mirrored(t testing.TB, listed ...*polar.CustomerMeter) (*store.Store, func(sql string, args ...any) string) {
	t.Helper()
	st, db := pgtest.NewStore(t)
	s := openOn(t, st)
	save(t, s, start(t, s, store.Full), &store.Block{CustomerMeters: listed})
	s.Release()
	return st, func(sql string, args ...any) string {
		t.Helper()
		return lookup(t, db, sql, args...)
	}
}

const unitsAndSource = `
SELECT concat_ws(' ', m.consumed_units, m.extra, (SELECT string_agg(h.source, ' ' ORDER BY h.observed_at) FROM polar.customer_meter_history h))
  FROM polar.customer_meters m`

func TestWebhookWritesWhatIsNewerAndKeepsWhatItDoesNotHave(t *testing.T) {
	t.Parallel()
	listed := sample(t, 1, modified(time.Hour))
	listed.Extra = []byte(`{"rollover": true}`)
	st, value := mirrored(t, listed)
	for _, step := range []struct {
		told *polar.CustomerMeter
		want string
	}{
		{sample(t, 1, modified(2*time.Hour), consumed(t, "20")), `20 {"rollover": true} full webhook`},
		{sample(t, 1, modified(time.Minute), consumed(t, "10")), `20 {"rollover": true} full webhook`},
		{sample(t, 1, modified(2*time.Hour), consumed(t, "20")), `20 {"rollover": true} full webhook`},
		{sample(t, 1, modified(3*time.Hour), consumed(t, "5")), `5 {"rollover": true} full webhook webhook`},
	} {
		apply(t, st, told(step.told))
		if got := value(unitsAndSource); got != step.want {
			t.Errorf("%s, want %s", got, step.want)
		}
	}
}

func TestWebhookBringsANewCustomerMeterOfAKnownMeter(t *testing.T) {
	t.Parallel()
	st, value := mirrored(t, sample(t, 1))
	fresh := sample(t, 4, consumed(t, "7")) // another customer, the same meter
	counts, effects := apply(t, st, told(fresh))
	if counts.RowsInserted != 1 || len(effects[0].Unknown) > 0 || effects[0].Foreign {
		t.Errorf("counts %+v, effects %+v", counts, effects)
	}
	if got := value(`SELECT consumed_units::text FROM polar.customer_meters WHERE id = $1 AND customer_id = $2`, fresh.ID, fresh.CustomerID); got != "7" {
		t.Errorf("%s units", got)
	}
}

func TestWebhookAboutAnUnknownMeterWritesTheRest(t *testing.T) {
	t.Parallel()
	st, value := mirrored(t, sample(t, 1))
	known, unknown := sample(t, 1, modified(time.Hour), consumed(t, "3")), sample(t, 2)
	unknown.CustomerID, unknown.Customer = known.CustomerID, known.Customer
	change := told(known)
	change.CustomerMeters = append(change.CustomerMeters, unknown)
	_, effects := apply(t, st, change)
	if len(effects) != 1 || len(effects[0].Unknown) != 1 || effects[0].Unknown[0].ID != unknown.ID {
		t.Errorf("effects %+v", effects)
	}
	if got := value(`SELECT string_agg(consumed_units::text, ' ') FROM polar.customer_meters`); got != "3" {
		t.Errorf("units %s", got)
	}
}

func TestWebhookRevivesNothingThatWasProvenGone(t *testing.T) {
	t.Parallel()
	st, db := pgtest.NewStore(t)
	s := openOn(t, st)
	run := start(t, s, store.Full)
	save(t, s, run, &store.Block{CustomerMeters: rows(sample(t, 1))})
	if _, err := s.MarkDeleted(t.Context(), run, []uuid.UUID{sample(t, 1).ID}); err != nil {
		t.Fatal(err)
	}
	apply(t, st, told(sample(t, 1, modified(time.Hour), consumed(t, "9"))))
	if got := lookup(t, db, `SELECT (deleted_at IS NOT NULL)::text || ' ' || consumed_units FROM polar.customer_meters`); got != "true 0.1" {
		t.Errorf("deleted and units: %s", got)
	}
}

// TestCustomerIsReplacedByNewerOnesOnly: of two states of one time the one that
// is deleted wins, whichever comes first.
func TestCustomerIsReplacedByNewerOnesOnly(t *testing.T) {
	t.Parallel()
	at := epoch.Add(time.Hour)
	named := func(name string, modifiedAt, deletedAt time.Time) *polar.CustomerMeter {
		return edited(sample(t, 1), func(c *polar.Customer) { c.Name, c.ModifiedAt, c.DeletedAt = &name, modifiedAt, deletedAt })
	}
	st, value := mirrored(t, named("listed", at, time.Time{}))
	for _, step := range []struct {
		told *polar.CustomerMeter
		want string
	}{
		{named("older", at.Add(-time.Minute), time.Time{}), "listed f"},
		{named("of the same time", at, time.Time{}), "listed f"},
		{named("deleted", at, at), "deleted t"},
		{named("deleted again", at, at), "deleted t"},
		{named("of the same time", at, time.Time{}), "deleted t"},
		{named("newer", at.Add(time.Minute), time.Time{}), "newer f"},
	} {
		apply(t, st, &store.Change{Customer: step.told.Customer})
		if got := value(`SELECT concat_ws(' ', name, deleted_at IS NOT NULL) FROM polar.customers`); got != step.want {
			t.Errorf("after %q: %s, want %s", *step.told.Customer.Name, got, step.want)
		}
	}
}

func TestCustomerOfNoConcernIsNotTakenIn(t *testing.T) {
	t.Parallel()
	st, value := mirrored(t, sample(t, 1))
	apply(t, st, &store.Change{Customer: sample(t, 2).Customer, OnlyKnown: true})
	apply(t, st, &store.Change{Customer: sample(t, 3).Customer})
	if got := value(`SELECT string_agg(name, ', ' ORDER BY name) FROM polar.customers`); got != "Customer 1, Customer 3" {
		t.Errorf("customers: %s", got)
	}
}

// TestWebhookOfOneOrganizationTouchesNoOther whichever of the ids is another's.
func TestWebhookOfOneOrganizationTouchesNoOther(t *testing.T) {
	t.Parallel()
	st, db := pgtest.NewStore(t)
	other := numbered('o', 2)
	for id, name := range map[uuid.UUID]string{organization: "acme", other: "globex"} {
		if err := st.RegisterOrganization(t.Context(), id, name); err != nil {
			t.Fatal(err)
		}
	}
	theirs := sample(t, 1)
	theirs.Customer.OrganizationID, theirs.Meter.OrganizationID = other, other
	if _, err := st.Apply(t.Context(), other, store.Webhook, &store.Block{CustomerMeters: rows(theirs)}); err != nil {
		t.Fatal(err)
	}
	const all = `
SELECT concat_ws(' ', (SELECT count(*) FROM polar.customers), (SELECT count(*) FROM polar.customer_meters), (SELECT max(name) FROM polar.customers), (SELECT max(consumed_units) FROM polar.customer_meters))`
	before := lookup(t, db, all)
	newer := func(change func(*polar.CustomerMeter)) *store.Change {
		m := edited(sample(t, 1, modified(time.Hour), consumed(t, "66")), func(c *polar.Customer) { c.ModifiedAt = epoch.Add(time.Hour) })
		change(m)
		m.Customer.ID = m.CustomerID
		return told(m)
	}
	for name, change := range map[string]*store.Change{
		"customer":       newer(func(m *polar.CustomerMeter) { m.ID, m.MeterID = numbered('x', 9), numbered('m', 9) }),
		"customer meter": newer(func(m *polar.CustomerMeter) { m.CustomerID, m.MeterID = numbered('c', 9), numbered('m', 9) }),
		"meter":          newer(func(m *polar.CustomerMeter) { m.ID, m.CustomerID = numbered('x', 9), numbered('c', 9) }),
	} {
		if _, effects := apply(t, st, change); !effects[0].Foreign {
			t.Errorf("%s: effects %+v, want foreign", name, effects)
		}
		if diff := cmp.Diff(before, lookup(t, db, all)); diff != "" {
			t.Errorf("%s (-before +after):\n%s", name, diff)
		}
	}
}

// TestWalksAndWebhooksDoNotDeadlock has both write the same rows, in blocks of
// random choice, all of them changing each time.
func TestWalksAndWebhooksDoNotDeadlock(t *testing.T) {
	t.Parallel()
	st, db := pgtest.NewStore(t)
	s := openOn(t, st)
	run := start(t, s, store.Full)
	const customers, rounds = 40, 60
	version := func(n, v int) *polar.CustomerMeter {
		return edited(sample(t, n, modified(time.Duration(v)*time.Second), consumed(t, fmt.Sprint(v))), func(c *polar.Customer) {
			c.ModifiedAt = epoch.Add(time.Duration(v) * time.Second)
		})
	}
	var all []*polar.CustomerMeter
	for n := range customers {
		all = append(all, version(n, 0))
	}
	save(t, s, run, &store.Block{CustomerMeters: all})
	some := func(chance *rand.Rand) []*polar.CustomerMeter {
		var chosen []*polar.CustomerMeter
		for _, n := range chance.Perm(customers)[:1+chance.IntN(customers)] {
			chosen = append(chosen, version(n, chance.IntN(1_000_000)))
		}
		return chosen
	}
	var writers sync.WaitGroup
	for replica := range 2 {
		writers.Go(func() {
			chance := rand.New(rand.NewPCG(1, uint64(replica)))
			for i := range rounds {
				if err := applyOnce(t, st, fmt.Sprint(replica, ".", i), some(chance)); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	writers.Go(func() {
		chance := rand.New(rand.NewPCG(2, 2))
		for range rounds {
			block := &store.Block{CustomerMeters: some(chance), Force: chance.IntN(3) == 0, RequestedAt: time.Now()}
			if _, err := s.SaveBlock(t.Context(), run, block); err != nil {
				t.Error(err)
				return
			}
		}
	})
	writers.Wait()
	if got := lookup(t, db, `SELECT concat_ws(' ', count(*), count(applied_at)) FROM polar.webhook_events`); got != "120 120" {
		t.Errorf("deliveries and those applied: %s", got)
	}
}

// applyOnce applies customer meters as what one delivery says.
func applyOnce(t testing.TB, st *store.Store, id string, rows []*polar.CustomerMeter) error {
	t.Helper()
	d := delivery(1, 1)
	d.ID, d.Customer = id, uuid.New() // deliveries of one customer would wait for each other
	if _, err := st.SaveDelivery(t.Context(), d); err != nil {
		return err
	}
	var changes []*store.Change
	for _, m := range rows {
		changes = append(changes, told(m))
	}
	claimed := false
	for !claimed { // another caller may have taken this delivery, and left its own
		err := st.ProcessDeliveries(t.Context(), organization, 1, func(c *store.Claim) ([]store.DeliveryResult, error) {
			claimed = true
			_, _, err := c.Apply(t.Context(), changes)
			return []store.DeliveryResult{{Status: store.DeliveryApplied}}, err
		})
		if err != nil {
			return err
		}
	}
	return nil
}
