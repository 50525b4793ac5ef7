package web

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"time"

	"github.com/google/uuid"

	"polarmirror/internal/store"
)

// A balanceCard is one meter of a customer.
type balanceCard struct {
	store.CustomerMeter
	Negative bool
	Chart    *chart // nil if there is none
	None     string // why
}

// maxCharts is how many meters of a customer have a chart: each costs a look at the
// history for every point.
const maxCharts = 12

// customer shows one customer.
func (p *Page) customer(r *http.Request) (*reply, error) {
	id, err := uuid.Parse(r.PathValue("id"))
	if err != nil {
		return nil, errNotFound
	}
	const limit = 50 // changes on a page
	var body struct {
		*store.Customer
		Periods []choice
		Cards   []balanceCard
		Names   map[uuid.UUID]string // of the meters
		Changes []store.HistoryRow
		Pages   pages
	}
	days, periods := period(r, "balances")
	before, _ := time.Parse(time.RFC3339Nano, r.URL.Query().Get("before")) // else from the newest
	now := time.Now()
	balances, err := look(r.Context(), p, p.quick, func(ctx context.Context, v *store.View) ([]store.BalancePoint, error) {
		customer, found, err := v.Customer(ctx, id)
		if err != nil {
			return nil, err
		}
		if !found {
			return nil, errNotFound
		}
		body.Customer = customer
		var ids []uuid.UUID
		for _, m := range customer.Meters {
			ids = append(ids, m.ID)
		}
		if body.Changes, err = v.Changes(ctx, ids, before, limit); err != nil {
			return nil, err
		}
		const moments = 91
		return v.Balances(ctx, ids[:min(len(ids), maxCharts)], midnight(now).AddDate(0, 0, 1-days), now, moments)
	})
	if err != nil {
		return nil, err
	}
	body.Periods, body.Names = periods, map[uuid.UUID]string{}
	for i, m := range body.Meters {
		body.Names[m.ID] = m.MeterName
		card := balanceCard{CustomerMeter: m, Negative: approximate(m.Balance) < 0, None: "No history in these days."}
		if i >= maxCharts {
			card.None = fmt.Sprintf("Only the first %d meters have charts here.", maxCharts)
		}
		var points []point
		for _, b := range balances {
			if b.CustomerMeterID == m.ID {
				points = append(points, point{b.At, b.Balance})
			}
		}
		if slices.ContainsFunc(points, func(p point) bool { return p.Value != "" }) {
			card.Chart = line(now, days, points)
			card.Chart.Kind, card.Chart.Text = "balance", "Balance of "+m.MeterName+", now "+grouped(m.Balance)
		}
		body.Cards = append(body.Cards, card)
	}
	n := fitting(body.Changes, limit)
	body.Pages = pageLinks(r, "before", "changes", body.Changes, n, func(c store.HistoryRow) string {
		return c.ObservedAt.UTC().Format(time.RFC3339Nano)
	})
	body.Changes = body.Changes[:n]
	return &reply{view: "customer", Title: label(body.Person), Place: "customers", Body: body}, nil
}

// fitting is how many of the changes a page of limit shows, or of more: what was seen
// at one moment stays together, since the next page begins before a moment.
func fitting(changes []store.HistoryRow, limit int) int {
	n := min(len(changes), limit)
	for n > 0 && n < len(changes) && changes[n-1].ObservedAt.Equal(changes[n].ObservedAt) {
		n++
	}
	return n
}
