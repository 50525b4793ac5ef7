package polarsim

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"testing"

	"github.com/google/uuid"
)

// A reader is a naive client of one organization.
type reader struct {
	server *Server
	org    Organization
	client *http.Client
	base   string
}

type listed struct {
	Items []struct {
		ID         uuid.UUID
		CreatedAt  string  `json:"created_at"`
		ModifiedAt *string `json:"modified_at"`
		Customer   struct {
			Name      *string
			DeletedAt *string `json:"deleted_at"`
		}
	}
	Pagination struct {
		TotalCount int `json:"total_count"`
		MaxPage    int `json:"max_page"`
	}
}

// read returns a client of the first organization, in memory.
func read(o Options) *reader {
	s := New(o)
	return &reader{server: s, org: s.Organizations()[0], client: &http.Client{Transport: s.Transport()},
		base: "http://polar.test"}
}

func rows(n int) Options {
	return Options{Seed: 7, Organizations: []Organization{{Name: "a", CustomerMeters: n}}}
}

func (c *reader) request(t testing.TB, ctx context.Context, path string) *http.Request {
	t.Helper()
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, c.base+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Authorization", "Bearer "+c.org.Token)
	return r
}

func (c *reader) do(t testing.TB, path string) *http.Response {
	t.Helper()
	response, err := c.client.Do(c.request(t, t.Context(), path))
	if err != nil {
		t.Fatalf("GET %s: %v", path, err)
	}
	t.Cleanup(func() { response.Body.Close() })
	return response
}

func (c *reader) list(t testing.TB, query string) listed {
	t.Helper()
	response := c.do(t, listPath+"?"+query)
	body, err := io.ReadAll(response.Body)
	if err != nil || response.StatusCode != http.StatusOK {
		t.Fatalf("list %s: status %d, error %v: %.300s", query, response.StatusCode, err, body)
	}
	var page listed
	if err := json.Unmarshal(body, &page); err != nil {
		t.Fatalf("list %s: %v", query, err)
	}
	return page
}

func (l listed) ids() []uuid.UUID {
	var ids []uuid.UUID
	for _, item := range l.Items {
		ids = append(ids, item.ID)
	}
	return ids
}

// walk reads page after page until one is empty.
func (c *reader) walk(t testing.TB, limit int, sorting ...string) []uuid.UUID {
	t.Helper()
	var all []uuid.UUID
	for page := 1; ; page++ {
		query := url.Values{"page": {strconv.Itoa(page)}, "limit": {strconv.Itoa(limit)}, "sorting": sorting}
		ids := c.list(t, query.Encode()).ids()
		if len(ids) == 0 {
			return all
		}
		all = append(all, ids...)
	}
}

func missing(t testing.TB, seen []uuid.UUID, want []Row) int {
	t.Helper()
	set := make(map[uuid.UUID]bool)
	for _, id := range seen {
		set[id] = true
	}
	n := 0
	for _, r := range want {
		if !set[r.ID] {
			n++
		}
	}
	return n
}

// flap archives a meter, or brings it back if it is archived.
func flap(m *meter) {
	if m.ArchivedAt.IsZero() {
		m.ArchivedAt = m.ModifiedAt
	} else {
		m.ArchivedAt = Time{}
	}
}

// always is a plan by which every request goes wrong.
func always(f Fault) func(int, *http.Request) Fault {
	return func(int, *http.Request) Fault { return f }
}
