package web_test

import (
	"net/http/httptest"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/net/html"

	"polarmirror/internal/polarsim"
)

// paths are those of one page of each kind, and of what they link to.
func (e *env) paths() []string {
	e.Helper()
	customer := e.value(`SELECT id::text FROM polar.customers ORDER BY id LIMIT 1`)
	meter := e.value(`SELECT id::text FROM polar.meters ORDER BY id LIMIT 1`)
	return []string{"/", "/live", "/?days=7", "/organizations/acme", "/live?organization=acme", "/meters/" + meter, "/meters/" + meter + "?days=90",
		"/customers", "/customers?q=a", "/customers/" + customer, "/runs", "/runs?all=1", "/nothing"}
}

// hostile is what somebody may call themselves.
const hostile = `"><script>alert(1)</script><img src=x onerror=alert(2)>'` + "`" + `javascript:alert(3)//{{.}}` + "\u202e"

// hostileEnv is a mirror in which everything a stranger can name is hostile.
func hostileEnv(t *testing.T) *env {
	t.Helper()
	e := newEnv(t, polarsim.Organization{Name: "acme", CustomerMeters: 12, Meters: 2})
	e.backfill()
	e.exec(`UPDATE polar.customers SET name = $1, email = $1 || id, external_id = $1 || id, billing_name = $1, type = $1`, hostile)
	e.exec(`UPDATE polar.meters SET name = $1, unit = $1`, hostile)
	e.exec(`INSERT INTO polar.sync_runs (organization_id, started_at, finished_at, kind, status, error) VALUES ($1, now(), now(), 'full', 'failed', $2)`, e.orgs[0].ID, hostile)
	return e
}

// markup are the elements of a page and the names of their attributes: its
// shape, whatever its texts.
func markup(d *document) map[string]bool {
	shape := map[string]bool{}
	for _, n := range find(d.root, func(*html.Node) bool { return true }) {
		for _, a := range n.Attr {
			shape[n.Data+" "+a.Key] = true
		}
		shape[n.Data] = true
	}
	return shape
}

func TestHostileNamesStayText(t *testing.T) {
	t.Parallel()
	e := hostileEnv(t)
	server := e.page()
	for _, path := range append(e.paths(), "/customers?q="+url.QueryEscape(hostile[:40]), "/customers?q="+url.QueryEscape(`"onfocus="x`), `/?usage=%22%3E%3Cscript%3E`) {
		d := get(t, server, path)
		for part := range markup(d) {
			if element, name, _ := strings.Cut(part, " "); strings.HasPrefix(name, "on") || element == "img" || element == "iframe" || name == "style" || element == "style" || name == "srcdoc" {
				t.Errorf("%s: <%s> got in", path, part)
			}
		}
		for _, script := range find(d.root, tag("script")) {
			if src, ok := attribute(script, "src"); !ok || src != "/assets/page.js" || text(script) != "" {
				t.Errorf("%s: a script of somebody else's: %q %s", path, src, text(script))
			}
		}
		for _, a := range find(d.root, with("href", "*")) {
			if href, _ := attribute(a, "href"); !strings.HasPrefix(href, "/") && !strings.HasPrefix(href, "#") || strings.HasPrefix(href, "//") {
				t.Errorf("%s: a link to %q", path, href)
			}
		}
	}
	d := ok(t, server, "/customers")
	if got := text(find(d.one(class("customers")), class("name"))[0]); !strings.Contains(got, "<script>alert(1)</script>") {
		t.Errorf("the name is shown as %q", got)
	}
}

func TestNoPageHoldsASecret(t *testing.T) {
	t.Parallel()
	e := newEnv(t, polarsim.Organization{Name: "acme", CustomerMeters: 30, Token: "polar_oat_THESECRET"})
	e.backfill()
	e.orgs[0].Token = "polar_oat_WRONGSECRET"
	if err := e.mirror(nil).Backfill(t.Context()); err == nil {
		t.Fatal("the backfill did not fail")
	}
	password := ""
	if u, err := url.Parse(e.db.URL); err == nil && u.User != nil {
		password, _ = u.User.Password()
	}
	server := e.page()
	for _, path := range e.paths() {
		d := get(t, server, path)
		if strings.Contains(d.raw, "THESECRET") || strings.Contains(d.raw, "WRONGSECRET") || password != "" && strings.Contains(d.raw, password) {
			t.Errorf("%s holds a secret", path)
		}
	}
	if d := ok(t, server, "/"); len(find(d.root, class("error"))) == 0 {
		t.Error("the failure is not shown")
	}
}

func TestCustomersAreFoundAndTurnedOver(t *testing.T) {
	t.Parallel()
	large(t)
	e := newEnv(t, polarsim.Organization{Name: "acme", CustomerMeters: 600, Meters: 1})
	e.backfill()
	if n := e.value(`SELECT count(*)::text FROM polar.customers`); n != "600" {
		t.Fatalf("%s customers, want 600", n)
	}
	server := e.page()
	for _, path := range []string{"/", "/organizations/acme", "/customers"} {
		if d := complete(t, server, path); len(d.raw) > 200_000 {
			t.Errorf("%s weighs %d bytes", path, len(d.raw))
		}
	}
	d := ok(t, server, "/customers")
	if got := digits(text(d.one(tag("h1")))); got != "Customers 600" {
		t.Errorf("heading %q", got)
	}
	for column, where := range map[string]string{"name": "name IS NOT NULL", "email": "email IS NOT NULL", "external_id": "external_id IS NOT NULL", "id::text": "true"} {
		who := e.value(`SELECT id::text FROM polar.customers WHERE ` + where + ` ORDER BY md5(id::text) LIMIT 1`)
		q := e.value(`SELECT `+column+` FROM polar.customers WHERE id = $1`, who)
		found := e.value(`SELECT count(*)::text FROM polar.customers WHERE strpos(lower(name), lower($1)) > 0 OR strpos(lower(email), lower($1)) > 0 OR strpos(lower(external_id), lower($1)) > 0 OR id::text = $1`, q)
		seen := turnOver(t, server, "/customers?q="+url.QueryEscape(q))
		if !slices.Contains(seen, who) {
			t.Errorf("%s %q is not found", column, q)
		}
		if got := strconv.Itoa(len(seen)); got != found {
			t.Errorf("%s %q: %s found, SQL says %s", column, q, got, found)
		}
	}
	seen := turnOver(t, server, "/customers?organization=acme")
	slices.Sort(seen)
	if n := len(slices.Compact(seen)); n != 600 {
		t.Errorf("%d customers on all pages together", n)
	}
}

// turnOver follows the list of customers to its end and returns their ids.
func turnOver(t *testing.T, server *httptest.Server, path string) (ids []string) {
	t.Helper()
	for path != "" {
		d := ok(t, server, path)
		for _, a := range find(d.root, class("name")) {
			href, _ := attribute(a, "href")
			ids = append(ids, strings.TrimPrefix(href, "/customers/"))
		}
		path = link(d, "next")
	}
	return ids
}
