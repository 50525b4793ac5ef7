package web

import (
	"net/http"
	"net/url"
	"strings"
	"unicode/utf8"

	"github.com/google/uuid"

	"polarmirror/internal/store"
)

const (
	customersAPage = 50
	// longestSearch is how many bytes of what is searched for are looked at.
	longestSearch = 200
)

// A customersBody is a list of customers.
type customersBody struct {
	Text         string
	Organization string // "" for all
	Names        []string
	Customers    []customerRow
	Total        string // of customers; "" while they are being counted, and of a search
	Next, Prev   string // paths; "" if there is nothing there
	First        string // path; "" if this is the first page
}

type customerRow struct {
	Who          who
	Email        string
	ExternalID   string
	Organization string
	Meters       int64
	Overdrawn    int64
	Changed      moment
}

func (p *Page) customerSearch(r *http.Request) (*reply, error) {
	q := r.URL.Query()
	all, _, err := p.orgs.get(r.Context(), struct{}{})
	if err != nil {
		return nil, err
	}
	body := customersBody{Text: searchText(q.Get("q")), Organization: q.Get("organization")}
	want := store.CustomersWanted{Text: body.Text, Limit: customersAPage}
	found := body.Organization == ""
	for _, s := range all.status {
		body.Names = append(body.Names, s.Organization)
		if s.Organization == body.Organization {
			want.Organization, found = s.OrganizationID, true
		}
	}
	if !found {
		return nil, errNotFound
	}
	// What is no id asks for the first page.
	want.After, _ = uuid.Parse(q.Get("after"))
	want.Before, _ = uuid.Parse(q.Get("before"))
	list, _, err := p.customers.get(r.Context(), want)
	if err != nil {
		return nil, err
	}
	body.fill(p, want, list)
	if body.Text == "" {
		if n, _, err := p.counts.get(r.Context(), want.Organization); err == nil {
			body.Total = count(n)
		}
	}
	return &reply{view: "customers", frame: frame{Title: "Customers", Place: "customers", NoFind: true, Body: body}}, nil
}

func (b *customersBody) fill(p *Page, want store.CustomersWanted, list customerList) {
	for _, c := range list.customers {
		row := customerRow{
			Who: whoIs(c.Person), Email: c.Email, ExternalID: c.ExternalID, Organization: c.Organization,
			Meters: c.Meters, Overdrawn: c.Overdrawn, Changed: momentOf(p.now(), c.ChangedAt),
		}
		b.Customers = append(b.Customers, row)
	}
	backward := want.Before != uuid.Nil
	if n := len(list.customers); n > 0 {
		if list.more || backward {
			b.Next = b.path("after", list.customers[n-1].ID.String())
		}
		if list.more && backward || !backward && want.After != uuid.Nil {
			b.Prev = b.path("before", list.customers[0].ID.String())
		}
	}
	if want.After != uuid.Nil || backward {
		b.First = b.path("", "")
	}
}

// path is this list from another place on.
func (b *customersBody) path(edge, at string) string {
	v := url.Values{}
	for key, value := range map[string]string{"q": b.Text, "organization": b.Organization, edge: at} {
		if key != "" && value != "" {
			v.Set(key, value)
		}
	}
	if len(v) == 0 {
		return "/customers"
	}
	return "/customers?" + v.Encode()
}

// searchText is what was typed, as far as it can be looked for.
func searchText(typed string) string {
	text := strings.TrimSpace(strings.ReplaceAll(strings.ToValidUTF8(typed, ""), "\x00", ""))
	for len(text) > longestSearch {
		_, size := utf8.DecodeLastRuneInString(text)
		text = text[:len(text)-size]
	}
	return text
}
