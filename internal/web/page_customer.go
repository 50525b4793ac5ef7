package web

import (
	"context"
	"net/http"
	"time"

	"github.com/google/uuid"

	"polarmirror/internal/store"
)

const (
	customerCharts  = 12 // meters with a chart on a customer's page
	balanceDays     = 90 // that a chart reaches back
	balanceMoments  = 91 // on a chart
	changesAPage    = 50
	changesPosition = "2006-01-02T15:04:05.000000Z" // in a path: to the microsecond
)

// A customerBody is the page of one customer.
type customerBody struct {
	Who                     who
	ID                      string
	Organization, OrgPath   string
	Name, Email, ExternalID string
	Type, BillingName       string
	Created, Modified       moment
	Deleted                 moment // Text is "never" if Polar has it
	Meters                  []balanceCard
	Changes                 []changeRow
	Older, Newest           string // paths; "" if there is nothing there
}

// A balanceCard is one meter of a customer.
type balanceCard struct {
	Name, Path, Unit            string
	Balance, Consumed, Credited string
	Negative                    bool
	Changed                     moment
	State                       string // why it is not kept current; "" if it is
	Chart                       *chartPair
	From                        string
}

type changeRow struct {
	At                                moment
	Meter                             string
	Source                            string
	Deleted                           bool
	Consumed, Credited, Balance       string
	ConsumedBy, CreditedBy, BalanceBy string // "" for the first state seen
}

// A customerView is what the database says of a customer.
type customerView struct {
	customer *store.Customer
	changes  []store.HistoryRow
	balances []store.BalancePoint
	from, to time.Time // of the balances
}

func (p *Page) customer(r *http.Request) (*reply, error) {
	id, err := uuid.Parse(r.PathValue("id"))
	if err != nil {
		return nil, errNotFound
	}
	before, _ := time.Parse(changesPosition, r.URL.Query().Get("before")) // else from the newest
	view, err := seen(r.Context(), p, p.quick, quickLimit, func(ctx context.Context, v *store.View) (customerView, error) {
		return p.customerView(ctx, v, id, before)
	})
	if err != nil {
		return nil, err
	}
	if view.customer == nil {
		return nil, errNotFound
	}
	body := p.customerBody(&view, before)
	return &reply{view: "customer", frame: frame{Title: body.Who.Label, Place: "customers", Body: body}}, nil
}

func (p *Page) customerView(ctx context.Context, v *store.View, id uuid.UUID, before time.Time) (view customerView, err error) {
	customer, found, err := v.Customer(ctx, id)
	if err != nil || !found {
		return view, err
	}
	view.customer = customer
	ids := make([]uuid.UUID, len(customer.Meters))
	view.to = p.now()
	view.from = view.to
	for i, m := range customer.Meters {
		ids[i] = m.ID
		if m.FirstSeenAt.Before(view.from) {
			view.from = m.FirstSeenAt
		}
	}
	view.from = laterOf(view.from, view.to.AddDate(0, 0, -balanceDays))
	if view.changes, err = v.Changes(ctx, ids, before, changesAPage+1); err != nil {
		return view, err
	}
	view.balances, err = v.Balances(ctx, ids[:min(len(ids), customerCharts)], view.from, view.to, balanceMoments)
	return view, err
}

func (p *Page) customerBody(view *customerView, before time.Time) customerBody {
	c, now := view.customer, p.now()
	body := customerBody{
		Who: whoIs(c.Person), ID: c.ID.String(), Organization: c.Organization, OrgPath: organizationPath(c.Organization),
		Name: c.Name, Email: c.Email, ExternalID: c.ExternalID, Type: c.Type, BillingName: c.BillingName,
		Created: dated(c.CreatedAt), Modified: momentOf(now, c.ModifiedAt), Deleted: momentOf(now, c.DeletedAt),
	}
	names := map[uuid.UUID]string{}
	for _, m := range c.Meters {
		names[m.ID] = m.MeterName
		body.Meters = append(body.Meters, p.balanceCard(m, view))
	}
	changes := firstChanges(view.changes, changesAPage)
	if len(changes) < len(view.changes) {
		body.Older = body.Who.Path + "?before=" + changes[len(changes)-1].ObservedAt.Format(changesPosition) + "#changes"
	}
	if !before.IsZero() {
		body.Newest = body.Who.Path + "#changes"
	}
	for _, ch := range changes {
		body.Changes = append(body.Changes, changeRow{
			At: dated(ch.ObservedAt), Meter: names[ch.CustomerMeterID], Source: ch.Source, Deleted: ch.Deleted,
			Consumed: grouped(ch.Consumed), Credited: count(ch.Credited), Balance: grouped(ch.Balance),
			ConsumedBy: signed(ch.ConsumedBy), CreditedBy: signed(ch.CreditedBy), BalanceBy: signed(ch.BalanceBy),
		})
	}
	return body
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

func (p *Page) balanceCard(m store.CustomerMeter, view *customerView) balanceCard {
	card := balanceCard{
		Name: m.MeterName, Path: meterPath(m.MeterID.String()), Unit: m.Unit,
		Balance: grouped(m.Balance), Consumed: grouped(m.Consumed), Credited: count(m.Credited),
		Negative: approximate(m.Balance) < 0, Changed: momentOf(p.now(), m.ChangedAt), From: view.from.Format("Jan 2"),
	}
	switch {
	case !m.DeletedAt.IsZero():
		card.State = "Polar no longer has it"
	case !m.OutOfScopeAt.IsZero():
		card.State = "left the configured filter"
	case m.Archived:
		card.State = "its meter is archived"
	}
	card.Chart = p.balanceChart(m, view)
	return card
}

// balanceChart is nil where there are no two moments to join.
func (p *Page) balanceChart(m store.CustomerMeter, view *customerView) *chartPair {
	d := drawing{Width: 360, Height: 150, Axes: true}
	layout := "Jan 2"
	if view.to.Sub(view.from) < 3*day {
		layout = "Jan 2 15:04"
	}
	known := 0
	for _, b := range view.balances {
		if b.CustomerMeterID != m.ID {
			continue
		}
		d.Labels = append(d.Labels, b.At.Format(layout))
		d.Values = append(d.Values, approximate(b.Balance))
		d.Gaps = append(d.Gaps, b.Balance == "")
		if b.Balance != "" {
			known++
		}
	}
	if known < 2 {
		return nil
	}
	pair := p.pair("Balance of "+m.MeterName+" since "+view.from.Format(time.DateOnly)+", now "+grouped(m.Balance), line, d, 0)
	return &pair
}
