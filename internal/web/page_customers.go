package web

import (
	"cmp"
	"context"
	"net/http"
	"strings"

	"github.com/google/uuid"

	"polarmirror/internal/console"
	"polarmirror/internal/store"
)

// An organizationFilter is the organization that a list is restricted to.
type organizationFilter struct {
	Organization string // "" for all
	Names        []string
}

// filter reads which organization a list is about; its id is zero for all.
func (p *Page) filter(r *http.Request) (f organizationFilter, id uuid.UUID, err error) {
	f.Organization = r.URL.Query().Get("organization")
	all, err := p.organizations.get(r.Context(), struct{}{})
	if err != nil {
		return f, id, err
	}
	for _, s := range all.status {
		if s.OrganizationID != uuid.Nil { // else nothing is listed of it yet
			f.Names = append(f.Names, s.Organization)
		}
		if s.Organization == f.Organization {
			id = cmp.Or(s.OrganizationID, uuid.Max) // which nothing is listed of
		}
	}
	if f.Organization != "" && id == uuid.Nil {
		return f, id, errNotFound
	}
	return f, id, nil
}

// label is how a customer is called.
func label(p store.Person) string {
	return cmp.Or(strings.TrimSpace(p.Name), strings.TrimSpace(p.Email), strings.TrimSpace(p.ExternalID), p.ID.String())
}

// customerList shows the customers that match a search, page by page.
func (p *Page) customerList(r *http.Request) (*reply, error) {
	const limit = 50
	filter, organization, err := p.filter(r)
	if err != nil {
		return nil, err
	}
	body := struct {
		organizationFilter
		Text      string
		Customers []store.ListedCustomer
		Total     string // of customers; "" while they are being counted, and of a search
		Pages     pages
	}{organizationFilter: filter, Text: searchText(r.URL.Query().Get("q"))}
	query := store.CustomersQuery{Organization: organization, Text: body.Text, Limit: limit + 1}
	query.After, _ = uuid.Parse(r.URL.Query().Get("after")) // else from the start
	if body.Customers, err = p.customers.get(r.Context(), query); err != nil {
		return nil, err
	}
	body.Pages = pageLinks(r, "after", "", body.Customers, limit, func(c store.ListedCustomer) string { return c.ID.String() })
	body.Customers = body.Customers[:min(len(body.Customers), limit)]
	if body.Text == "" {
		ctx, cancel := context.WithTimeout(r.Context(), patience)
		defer cancel()
		if n, err := p.counts.get(ctx, organization); err == nil {
			body.Total = console.Count(n)
		}
	}
	return &reply{view: "customers", Title: "Customers", Place: "customers", Body: body}, nil
}

// searchText is what was typed, as far as it can be looked for.
func searchText(typed string) string {
	text := strings.TrimSpace(strings.ReplaceAll(typed, "\x00", ""))
	return strings.ToValidUTF8(text[:min(len(text), 200)], "")
}
