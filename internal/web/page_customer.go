package web

import (
	"net/http"
	"time"

	"github.com/google/uuid"

	"polarmirror/internal/store"
)

// A customerView is what the database says of a customer.
type customerView struct {
	customer *store.Customer // nil if the mirror has none of that id
	changes  []store.HistoryRow
	balances []store.BalancePoint
}

// A balanceCard is one meter of a customer.
type balanceCard struct {
	store.CustomerMeter
	Negative bool
	State    string // why it is not kept current; "" if it is
	Chart    *chart // nil if nothing was seen in these days
}

// A changeRow is a change with the name of its meter.
type changeRow struct {
	store.HistoryRow
	Meter string
}

// customer shows one customer.
func (p *Page) customer(r *http.Request) (*reply, error) {
	id, err := uuid.Parse(r.PathValue("id"))
	if err != nil {
		return nil, errNotFound
	}
	const limit = 50 // changes on a page
	days, periods := period(r, "balances")
	before, _ := time.Parse(time.RFC3339Nano, r.URL.Query().Get("before")) // else from the newest
	ctx, now := r.Context(), p.now()
	view, err := look(ctx, p, p.quick, func(v *store.View) (view customerView, err error) {
		customer, found, err := v.Customer(ctx, id)
		if err != nil || !found {
			return view, err
		}
		view.customer = customer
		var ids []uuid.UUID
		for _, m := range customer.Meters {
			ids = append(ids, m.ID)
		}
		if view.changes, err = v.Changes(ctx, ids, before, limit+1); err != nil {
			return view, err
		}
		const charts, moments = 12, 91
		view.balances, err = v.Balances(ctx, ids[:min(len(ids), charts)], midnight(now).AddDate(0, 0, 1-days), now, moments)
		return view, err
	})
	if err != nil {
		return nil, err
	}
	if view.customer == nil {
		return nil, errNotFound
	}
	body := struct {
		*store.Customer
		Periods       []choice
		Cards         []balanceCard
		Changes       []changeRow
		Older, Newest string // paths; "" if there is nothing there
	}{Customer: view.customer, Periods: periods}
	names := map[uuid.UUID]string{}
	for _, m := range view.customer.Meters {
		names[m.ID] = m.MeterName
		body.Cards = append(body.Cards, p.balanceCard(m, view.balances, days))
	}
	changes := firstChanges(view.changes, limit)
	if len(changes) < len(view.changes) {
		body.Older = here(r, "before", changes[len(changes)-1].ObservedAt.UTC().Format(time.RFC3339Nano)) + "#changes"
	}
	if !before.IsZero() {
		body.Newest = here(r, "before", "") + "#changes"
	}
	for _, c := range changes {
		body.Changes = append(body.Changes, changeRow{c, names[c.CustomerMeterID]})
	}
	return &reply{view: "customer", Title: label(body.Person), Place: "customers", Body: body}, nil
}

// firstChanges are at most limit of the changes. What was seen at one moment
// stays together, since the next page begins before a moment.
func firstChanges(changes []store.HistoryRow, limit int) []store.HistoryRow {
	n := min(len(changes), limit)
	for n > 1 && n < len(changes) && changes[n-1].ObservedAt.Equal(changes[n].ObservedAt) {
		n--
	}
	return changes[:n]
}

func (p *Page) balanceCard(m store.CustomerMeter, balances []store.BalancePoint, days int) balanceCard {
	now := p.now()
	card := balanceCard{CustomerMeter: m, Negative: approximate(m.Balance) < 0}
	switch {
	case !m.DeletedAt.IsZero():
		card.State = "deleted at Polar"
	case !m.OutOfScopeAt.IsZero():
		card.State = "left the configured filter"
	case m.Archived:
		card.State = "its meter is archived"
	}
	var points []point
	known := false
	for _, b := range balances {
		if b.CustomerMeterID == m.ID {
			points = append(points, point{b.At, b.Balance})
			known = known || b.Balance != ""
		}
	}
	if known {
		card.Chart = line(now, days, points)
		card.Chart.Kind, card.Chart.Text = "balance", "Balance of "+m.MeterName+", now "+grouped(m.Balance)
	}
	return card
}
