package web

import (
	"context"
	"strings"

	"github.com/google/uuid"

	"polarmirror/internal/store"
)

// organizations are all that the database knows: how they stand, and what is
// being done for them.
type organizations struct {
	status   []store.OrgStatus
	activity map[uuid.UUID]store.Activity
}

func (p *Page) loadOrganizations(ctx context.Context, _ struct{}) (organizations, error) {
	return seen(ctx, p, p.quick, quickLimit, func(ctx context.Context, v *store.View) (all organizations, err error) {
		if all.status, err = v.OrgStatus(ctx, store.OrgStatusQuery{}); err != nil {
			return all, err
		}
		all.activity, err = v.Activity(ctx)
		return all, err
	})
}

func (p *Page) loadRuns(ctx context.Context, want store.RunsWanted) ([]store.RunRecord, error) {
	return seen(ctx, p, p.quick, quickLimit, func(ctx context.Context, v *store.View) ([]store.RunRecord, error) { return v.Runs(ctx, want) })
}

func (p *Page) loadMeters(ctx context.Context, _ struct{}) ([]store.Meter, error) {
	return seen(ctx, p, p.heavy, heavyLimit, func(ctx context.Context, v *store.View) ([]store.Meter, error) { return v.Meters(ctx) })
}

func (p *Page) loadCount(ctx context.Context, organization uuid.UUID) (int64, error) {
	return seen(ctx, p, p.heavy, heavyLimit, func(ctx context.Context, v *store.View) (int64, error) { return v.CountCustomers(ctx, organization) })
}

// A customerList is a page of customers.
type customerList struct {
	customers []store.ListedCustomer
	more      bool // in the direction that was asked for
}

func (p *Page) loadCustomers(ctx context.Context, want store.CustomersWanted) (customerList, error) {
	return seen(ctx, p, p.quick, quickLimit, func(ctx context.Context, v *store.View) (list customerList, err error) {
		list.customers, list.more, err = v.Customers(ctx, want)
		return list, err
	})
}

// rankingWanted says which rankings: of meters, as their ids side by side (a
// slice can't be a key), so many places each.
type rankingWanted struct {
	meters string
	places int
}

func rank(meters []store.Meter, places int) rankingWanted {
	var ids strings.Builder
	for _, m := range meters {
		ids.WriteString(string(m.ID[:]))
	}
	return rankingWanted{ids.String(), places}
}

func (w rankingWanted) ids() []uuid.UUID {
	var ids []uuid.UUID
	for rest := w.meters; len(rest) >= len(uuid.UUID{}); rest = rest[len(uuid.UUID{}):] {
		ids = append(ids, uuid.UUID([]byte(rest[:len(uuid.UUID{})])))
	}
	return ids
}

// A ranking is who consumed the most and who has least left, by meter.
type ranking struct {
	largest, lowest map[uuid.UUID][]store.Ranked
}

func (p *Page) loadRanking(ctx context.Context, want rankingWanted) (ranking, error) {
	return seen(ctx, p, p.heavy, heavyLimit, func(ctx context.Context, v *store.View) (r ranking, err error) {
		if r.largest, err = v.LargestConsumption(ctx, want.ids(), want.places); err != nil {
			return r, err
		}
		r.lowest, err = v.LowestBalance(ctx, want.ids(), want.places)
		return r, err
	})
}
