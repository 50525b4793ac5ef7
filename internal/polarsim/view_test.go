package polarsim

import (
	"math/rand/v2"
	"net/url"
	"slices"
	"testing"

	"github.com/google/uuid"
)

// TestFiltersFindTheirRowsThroughAnyChange compares what is found by customer
// and by meter with what a look at every row finds.
func TestFiltersFindTheirRowsThroughAnyChange(t *testing.T) {
	t.Parallel()
	o := rows(200)
	o.Unseen = true
	s := New(o)
	org := s.organizations[0]
	chance := rand.New(rand.NewPCG(5, 5))
	criteria := []criterion{{property: "created_at", descending: true}, {property: "customer_id"}, {property: "meter_id"}}
	for range 400 {
		s.Mutate(chance)
		a, b := pick(chance, org.rows), pick(chance, org.rows)
		if chance.IntN(10) == 0 {
			raw := RawRow{JSON: "{}", CustomerID: pick(chance, []uuid.UUID{{}, a.customer.id}), MeterID: pick(chance, []uuid.UUID{{}, b.meter.id})}
			if _, err := s.InsertRaw(org.ID, raw); err != nil {
				t.Fatal(err)
			}
		}
		customers := []uuid.UUID{a.customer.id, b.customer.id, a.customer.id, uuid.New()}
		meters := []uuid.UUID{b.meter.id, b.meter.id}
		for _, f := range []filter{{customers: customers}, {meters: meters}, {customers: customers, meters: meters}} {
			f.organizations = s.organizations
			v := s.view(f, criteria)
			var want []*row
			for _, r := range org.rows {
				if f.match(r) {
					want = append(want, r)
				}
			}
			slices.SortFunc(want, v.ordered.compare)
			if got := v.ordered.page(0, 1000, apart, 0); !slices.Equal(got, want) {
				t.Fatalf("found %d rows, want %d", len(got), len(want))
			}
		}
	}
}

// TestSetsOfCustomersCostOnlyTheirRows whatever else the organization has, and
// leave the long lists sorted.
func TestSetsOfCustomersCostOnlyTheirRows(t *testing.T) {
	t.Parallel()
	c := read(rows(20_000))
	c.list(t, "sorting=created_at")
	long := c.server.views[0]
	all := c.server.Customers(c.org.ID)
	for set := range slices.Chunk(all[:3000], 75) {
		query := url.Values{"limit": {"100"}}
		f := filter{organizations: c.server.organizations}
		for _, customer := range set {
			query.Add("customer_id", customer.ID.String())
			f.customers = append(f.customers, customer.ID)
		}
		looked := 0
		for _, rows := range c.server.candidates(&f) {
			looked += len(rows)
		}
		if got := c.list(t, query.Encode()).Pagination.TotalCount; got != looked {
			t.Fatalf("looked at %d rows for %d", looked, got)
		}
	}
	if len(c.server.views) != 1 || c.server.views[0] != long {
		t.Errorf("%d lists are kept sorted, want the one list without a filter", len(c.server.views))
	}
}
