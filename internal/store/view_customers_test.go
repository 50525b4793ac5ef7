package store_test

import (
	"context"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"

	"polarmirror/internal/pgtest"
	"polarmirror/internal/polar"
	"polarmirror/internal/store"
)

func TestCustomersComeOnceEach(t *testing.T) {
	t.Parallel()
	st, _ := pgtest.NewStore(t)
	s := openOn(t, st)
	run := start(t, s, store.Full)
	names := []*string{nil, new(""), new("Ada"), new("ada"), new("Ada"), new("Zoë"), new("_%"), new("Émile")}
	var block []*polar.CustomerMeter
	for n := range 40 {
		block = append(block, sample(t, n, func(m *polar.CustomerMeter) { m.Customer.Name = names[n%len(names)] }))
	}
	save(t, s, run, &store.Block{CustomerMeters: block})
	list := func(q store.CustomersQuery) (ids []uuid.UUID) {
		view(t, st, func(ctx context.Context, v *store.View) error {
			list, err := v.Customers(ctx, q)
			for _, c := range list {
				ids = append(ids, c.ID)
			}
			return err
		})
		return ids
	}
	all := list(store.CustomersQuery{Limit: 100})
	paged := list(store.CustomersQuery{Limit: 7})
	for page := paged; len(page) == 7; paged = append(paged, page...) {
		page = list(store.CustomersQuery{Limit: 7, After: page[6]})
	}
	if diff := cmp.Diff(all, paged); diff != "" || len(all) != 40 {
		t.Errorf("%d customers, want 40, and the same on pages (-list +pages):\n%s", len(all), diff)
	}
}

func TestSearchTakesPatternsLiterally(t *testing.T) {
	t.Parallel()
	st, _ := pgtest.NewStore(t)
	s := openOn(t, st)
	run := start(t, s, store.Full)
	save(t, s, run, &store.Block{CustomerMeters: rows(
		sample(t, 1, func(m *polar.CustomerMeter) { m.Customer.Name = new(`100% \o/ a_b`) }),
		sample(t, 2, func(m *polar.CustomerMeter) { m.Customer.Name, m.Customer.Email = new("axb 100"), new("x@Example.com") }),
		sample(t, 3, func(m *polar.CustomerMeter) { m.Customer.ExternalID = new("usr_42") }),
	)})
	for text, want := range map[string][]int{
		"":                                      {1, 2, 3},
		"100":                                   {1, 2},
		"100%":                                  {1},
		"a_b":                                   {1},
		`\o/`:                                   {1},
		"EXAMPLE":                               {2},
		" usr_4 ":                               {3},
		numbered('c', 2).String():               {2},
		"' OR 1=1 --":                           nil,
		"a\x00b":                                nil,
		numbered('c', 99).String() + "\xff\xfe": nil,
	} {
		var got []int
		view(t, st, func(ctx context.Context, v *store.View) error {
			list, err := v.Customers(ctx, store.CustomersQuery{Text: text, Limit: 10})
			for _, c := range list {
				got = append(got, int(c.ID[15]))
			}
			return err
		})
		slices.Sort(got)
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("search for %q (-want +got):\n%s", text, diff)
		}
	}
}
