package polarsim

import (
	"cmp"
	"fmt"
	"maps"
	"math/big"
	"math/rand/v2"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"pgregory.net/rapid"
)

// TestViewsStaySortedThroughAnyChange compares lists that are kept with lists sorted
// from nothing, and those with what the filter says of each row.
func TestViewsStaySortedThroughAnyChange(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		s := New(Options{Seed: rapid.Uint64().Draw(t, "seed"), NullsSmallest: rapid.Bool().Draw(t, "nulls"),
			Organizations: []Organization{{Name: "a", CustomerMeters: rapid.IntRange(1, 60).Draw(t, "a")}, {Name: "b", CustomerMeters: 5}}})
		org := s.organizations[0]
		criterion := rapid.Custom(func(t *rapid.T) criterion {
			return criterion{rapid.SampledFrom(properties()).Draw(t, "property"), rapid.Bool().Draw(t, "descending")}
		})
		orders := rapid.SliceOfN(rapid.SliceOfN(criterion, 1, 3), 1, 4).Draw(t, "orders")
		for range rapid.IntRange(1, 40).Draw(t, "changes") {
			kind := changeSomething(t, s)
			a, b := org.customers[rapid.IntRange(0, len(org.customers)-1).Draw(t, "customer")], org.meters[0]
			customers := []uuid.UUID{a.id, org.customers[0].id, a.id, uuid.New()}
			for _, f := range []filter{{}, {meters: []uuid.UUID{b.ID, b.ID}}, {customers: customers}, {customers: customers, meters: []uuid.UUID{b.ID}}, {external: []string{"usr_renamed"}}} {
				f.organizations = s.organizations[:1]
				for _, criteria := range orders {
					got := s.view(f, criteria)
					kept := s.views
					s.views = map[string]*view{}
					want := s.view(f, criteria)
					s.views = kept
					if !slices.Equal(got.rows, want.rows) || !slices.IsSortedFunc(got.rows, got.ties) {
						t.Fatalf("after %q the list in order %v is not sorted anew", kind, criteria)
					}
					for r := range org.rows() {
						if found := slices.Contains(got.rows, r); found != f.match(r) {
							t.Fatalf("after %q a row is found: %t, want %t", kind, found, f.match(r))
						}
					}
				}
			}
		}
	})
}

// changeSomething changes a row, its customer or its meter.
func changeSomething(t *rapid.T, s *Server) string {
	all := s.Snapshot(s.organizations[0].ID)
	if len(all) == 0 {
		return "nothing"
	}
	row := rapid.SampledFrom(all).Draw(t, "row")
	at := time.Now().Add(-time.Duration(rapid.IntRange(0, 9000).Draw(t, "hours")) * time.Hour)
	org := row.OrganizationID
	changes := map[string]func() error{
		"consume":         func() error { _, err := s.ConsumeLate(row.ID, "0.1", at); return err },
		"set state":       func() error { _, err := s.SetState(row.ID, Units{Consumed: "1e-7"}, at); return err },
		"delete row":      func() error { _, err := s.DeleteCustomerMeter(row.ID); return err },
		"unlist":          func() error { _, err := s.SetUnlisted(row.ID, !row.Unlisted); return err },
		"flap meter":      func() error { _, err := s.changeMeter(row.MeterID, flap); return err },
		"rename meter":    func() error { _, err := s.RenameMeter(row.MeterID, "renamed"); return err },
		"rename customer": func() error { _, err := s.RenameCustomer(row.CustomerID, "renamed"); return err },
		"delete customer": func() error { _, err := s.DeleteCustomer(row.CustomerID); return err },
		"external id": func() error {
			_, err := s.EditCustomer(row.CustomerID, func(c *Customer) { c.ExternalID = new("usr_renamed") })
			return err
		},
		"old customer": func() error { _, err := s.AddOldCustomer(org, at, 2); return err },
		"old meter":    func() error { _, err := s.AddOldMeter(org, "old", at, 2, 1); return err },
	}
	kind := rapid.SampledFrom(slices.Sorted(maps.Keys(changes))).Draw(t, "change")
	if err := changes[kind](); err != nil {
		t.Fatalf("%s: %v", kind, err)
	}
	return kind
}

// TestSetsOfCustomersAreNotKept so that thousands of them cost their own rows alone.
func TestSetsOfCustomersAreNotKept(t *testing.T) {
	t.Parallel()
	c := read(rows(200))
	c.list(t, "sorting=created_at")
	for set := range slices.Chunk(c.server.Customers(c.org.ID), 20) {
		query := url.Values{}
		for _, customer := range set {
			query.Add("customer_id", customer.ID.String())
		}
		c.list(t, query.Encode())
	}
	if len(c.server.views) != 1 {
		t.Errorf("%d lists are kept sorted, want the one list without a filter", len(c.server.views))
	}
}

func TestTiesComeInAnyOrder(t *testing.T) {
	t.Parallel()
	chance := rand.New(rand.NewPCG(1, 1))
	v := &view{rows: make([]*row, 7), ties: func(a, b *row) int { return cmp.Compare(a.units.Consumed, b.units.Consumed) }}
	for i := range v.rows {
		v.rows[i] = &row{units: Units{Consumed: []string{"0", "1", "1", "1", "1", "2", "2"}[i]}}
	}
	first := map[*row]int{}
	for range 4000 {
		page := append(v.page(0, 2, chance), v.page(2, 5, chance)...)
		if len(page) != 7 || page[0] != v.rows[0] || !slices.IsSortedFunc(page, v.ties) {
			t.Fatal("the pages are not in the order asked for")
		}
		first[page[1]]++
	}
	for _, r := range v.rows[1:5] {
		if n := first[r]; n < 900 || n > 1100 {
			t.Errorf("one of four rows came first in %d of 4000 orders", n)
		}
	}
}

func TestNumbersSubtractByValue(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		text := rapid.StringMatching(`-?(0|[1-9][0-9]{0,20})(\.[0-9]{1,12})?([eE][+-]?[0-9]{1,2})?`)
		a, b := text.Draw(t, "a"), text.Draw(t, "b")
		x, _ := new(big.Rat).SetString(a)
		y, _ := new(big.Rat).SetString(b)
		difference := combine(a, b, (*big.Rat).Sub)
		got, ok := new(big.Rat).SetString(difference)
		if want := new(big.Rat).Sub(x, y); !ok || got.Cmp(want) != 0 || strings.ContainsAny(difference, "eE") {
			t.Fatalf("%s - %s = %s, want %s", a, b, difference, want.FloatString(40))
		}
	})
}

func TestTokensAreNeverPrinted(t *testing.T) {
	t.Parallel()
	token := Token{Secret: "polar_oat_secret"}
	o := Organization{Name: "a", Token: "polar_oat_secret"}
	for _, text := range []string{fmt.Sprint(token), fmt.Sprintf("%+v %#v", token, token), fmt.Sprintf("%v %+v", o, []Organization{o})} {
		if strings.Contains(text, "secret") {
			t.Errorf("printed %s", text)
		}
	}
}
