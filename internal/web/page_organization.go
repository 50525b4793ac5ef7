package web

import (
	"net/http"
	"slices"
	"strconv"

	"github.com/google/uuid"

	"polarmirror/internal/store"
)

const (
	organizationMeters = 24 // with a panel on an organization's own page
	meterPlaces        = 20 // in the rankings on a meter's own page
)

// An organizationBody is the page of one organization.
type organizationBody struct {
	status
	Name  string
	Usage *usageSection // nil before anything is mirrored
}

func (p *Page) organization(r *http.Request) (*reply, error) {
	name := r.PathValue("name")
	s, err := p.status(r, name)
	if err != nil {
		return nil, err
	}
	row := s.Organizations[0]
	body := organizationBody{status: *s, Name: name}
	if row.ID != "" {
		body.Usage = p.usageOf(r.Context(), row, organizationMeters)
	}
	return &reply{view: "organization", frame: frame{Title: name, Place: "organization", Live: "/live?organization=" + name, Body: body}}, nil
}

// A meterBody is the page of one meter.
type meterBody struct {
	meterPanel
	Choices []tab // of days
	Note    string
}

// periods are the numbers of days that a meter's page offers.
func periods() []int { return []int{panelDays, usageDays} }

func (p *Page) meter(r *http.Request) (*reply, error) {
	id, err := uuid.Parse(r.PathValue("id"))
	if err != nil {
		return nil, errNotFound
	}
	ctx := r.Context()
	all, _, err := p.meters.get(ctx, struct{}{})
	if err != nil {
		return nil, err
	}
	i := slices.IndexFunc(all, func(m store.Meter) bool { return m.ID == id })
	if i < 0 {
		return nil, errNotFound
	}
	m := all[i]
	days, _ := strconv.Atoi(r.URL.Query().Get("days")) // else the shortest
	if !slices.Contains(periods(), days) {
		days = periods()[0]
	}
	body := meterBody{meterPanel: p.panel(m)}
	body.Use = p.useOf(p.usageDays(ctx, m), m, days, large)
	for _, n := range periods() {
		body.Choices = append(body.Choices, tab{Name: strconv.Itoa(n) + " days", Path: meterPath(m.ID.String()) + "?days=" + strconv.Itoa(n), Here: n == days})
	}
	ranks, _, err := p.rankings.get(ctx, rank([]store.Meter{m}, meterPlaces))
	if err != nil {
		body.Note, body.Unranked = p.notReady("ranking", err), true
	}
	body.Largest, body.Lowest = places(ranks.largest[m.ID], consumed), places(ranks.lowest[m.ID], balance)
	return &reply{view: "meter", frame: frame{Title: m.Name + " of " + m.Organization, Place: "organization", Body: body}}, nil
}
