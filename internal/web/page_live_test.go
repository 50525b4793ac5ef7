package web_test

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"golang.org/x/net/html"

	"polarmirror/internal/console"
	"polarmirror/internal/mirror"
	"polarmirror/internal/pgtest"
	"polarmirror/internal/polarsim"
	"polarmirror/internal/web"
)

// A gate lets requests through one at a time, when told to.
type gate struct {
	next http.RoundTripper
	pass chan struct{} // each value lets one through; closed: all
}

func (g *gate) RoundTrip(r *http.Request) (*http.Response, error) {
	select {
	case <-g.pass:
		return g.next.RoundTrip(r)
	case <-r.Context().Done():
		return nil, r.Context().Err()
	}
}

// slowly begins a backfill whose requests pass the returned gate, and returns
// how to let it end.
func (e *env) slowly(changes ...func(*mirror.Options)) (*gate, func()) {
	e.Helper()
	g := &gate{next: e.sim.Transport(), pass: make(chan struct{})}
	m := e.mirror(g, append(changes, func(o *mirror.Options) { o.PagesInFlight = 1 })...)
	done := make(chan error, 1)
	go func() { done <- m.Backfill(e.Context()) }()
	var once sync.Once
	finish := func() {
		once.Do(func() {
			close(g.pass)
			if err := <-done; err != nil {
				e.Error(err)
			}
		})
	}
	e.Cleanup(finish)
	return g, finish
}

// bar is the value of the bar of an organization; "" if it has none, "?" if it
// does not say.
func bar(d *document, organization string) string {
	for _, row := range find(d.root, with("data-organization", organization)) {
		for next := row.NextSibling; next != nil; next = next.NextSibling {
			if next.Type != html.ElementNode {
				continue
			}
			bars := find(next, tag("progress"))
			if !class("below")(next) || len(bars) == 0 {
				return ""
			}
			if value, ok := attribute(bars[0], "value"); ok {
				return value
			}
			return "?"
		}
	}
	return ""
}

// until asks for a path until it is as wanted.
func until(t testing.TB, server *httptest.Server, path string, wanted func(*document) bool) *document {
	t.Helper()
	ticker := time.NewTicker(20 * time.Millisecond)
	defer ticker.Stop()
	for {
		d := ok(t, server, path)
		if wanted(d) {
			return d
		}
		select {
		case <-ticker.C:
		case <-t.Context().Done():
			t.Fatalf("GET %s: never as wanted\n%s", path, text(d.root))
		}
	}
}

func TestBarFollowsThisProcessPageByPage(t *testing.T) {
	t.Parallel()
	e := newEnv(t, polarsim.Organization{Name: "acme", CustomerMeters: 1000})
	server := e.page()
	if d := ok(t, server, "/"); text(d.one(tag("h1"))) != "acme has not been mirrored yet." || bar(d, "acme") != "" {
		t.Errorf("before all: %s", text(d.root))
	}
	g, finish := e.slowly()
	d := until(t, server, "/live", func(d *document) bool { return bar(d, "acme") == "?" })
	if got := text(d.one(tag("h1"))); got != "acme is being mirrored for the first time." {
		t.Errorf("sentence %q", got)
	}
	last := ""
	for range 5 {
		g.pass <- struct{}{}
		d := until(t, server, "/live", func(d *document) bool { return bar(d, "acme") != last && bar(d, "acme") != "?" || last == "" })
		last = bar(d, "acme")
	}
	if last == "" || last == "?" || last == "0" {
		t.Errorf("the bar stands at %q after five pages of ten", last)
	}
	finish()
	d = until(t, server, "/live", func(d *document) bool { return bar(d, "acme") == "" })
	if got := text(d.one(tag("h1"))); got != "acme is current." {
		t.Errorf("sentence %q", got)
	}
}

// TestBarFollowsAnotherReplicaBlockByBlock: this page's process walks nothing.
func TestBarFollowsAnotherReplicaBlockByBlock(t *testing.T) {
	t.Parallel()
	e := newEnv(t, polarsim.Organization{Name: "acme", CustomerMeters: 1000})
	server := e.page(func(o *web.PageOptions) { o.Walk = console.NewScreen(nil).Walk })
	g, finish := e.slowly(func(o *mirror.Options) { o.BlockRows = 100 })
	seen := map[string]bool{}
	for range 9 {
		select {
		case g.pass <- struct{}{}:
		case <-t.Context().Done():
			t.Fatal("the walk ended early")
		}
		seen[bar(ok(t, server, "/live"), "acme")] = true
	}
	until(t, server, "/live", func(d *document) bool {
		at := bar(d, "acme")
		return len(at) == 2 && at > "50"
	})
	finish()
	until(t, server, "/live", func(d *document) bool { return bar(d, "acme") == "" })
}

// TestWhatNobodyHereDoesIsShownAsThat: a run whose process is dead does not go
// on, and an organization that is not configured here is not judged.
func TestWhatNobodyHereDoesIsShownAsThat(t *testing.T) {
	t.Parallel()
	e := newEnv(t, polarsim.Organization{Name: "acme", CustomerMeters: 10})
	e.backfill()
	e.exec(`INSERT INTO polar.sync_runs (organization_id, started_at, kind, status) VALUES ($1, now(), 'full', 'running')`, e.orgs[0].ID)
	if err := e.store.RegisterOrganization(t.Context(), uuid.New(), "former"); err != nil {
		t.Fatal(err)
	}
	d := ok(t, e.page(), "/?days=7")
	if got := text(d.one(class("lost"))); !strings.Contains(got, "its process is gone") || bar(d, "acme") != "" {
		t.Errorf("shown as %q with a bar at %q", got, bar(d, "acme"))
	}
	if got := text(d.one(tag("h1"))); got != "acme is current." {
		t.Errorf("sentence %q", got)
	}
	if got := text(d.one(with("data-organization", "former"))); !strings.Contains(got, "not configured here") {
		t.Errorf("shown as %q", got)
	}
}

func TestOrganizationsThatShareATokenShareItsBudget(t *testing.T) {
	t.Parallel()
	e := newEnv(t, polarsim.Organization{Name: "acme", CustomerMeters: 12}, polarsim.Organization{Name: "globex", CustomerMeters: 12}, polarsim.Organization{Name: "initech", CustomerMeters: 12})
	e.backfill()
	e.exec(`UPDATE polar.sync_runs SET requests = 30`)
	budget := func(server *httptest.Server, name string) string {
		cells := find(ok(t, server, "/").one(with("data-organization", name)), tag("td"))
		return text(cells[len(cells)-1])
	}
	server := e.page(func(o *web.PageOptions) {
		for i := range o.Organizations {
			o.Organizations[i].Token = [32]byte{byte(i / 2)}
		}
		o.Organizations[2].RequestsPerMinute = 0
	})
	for name, want := range map[string]string{"acme": "60 / 300", "globex": "60 / 300", "initech": "30"} {
		if got := budget(server, name); got != want {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
}

// TestManyReadersCostTheDatabaseOneLook: whoever looks within a second shares a
// look at the database.
func TestManyReadersCostTheDatabaseOneLook(t *testing.T) {
	t.Parallel()
	e := newEnv(t, polarsim.Organization{Name: "acme", CustomerMeters: 30})
	e.backfill()
	st := pgtest.OpenStore(t, e.db)
	server := e.page(func(o *web.PageOptions) { o.Store = st })
	began := time.Now()
	complete(t, server, "/?days=7")
	before := st.PoolStat().AcquireCount()
	var readers sync.WaitGroup
	for range 50 {
		readers.Go(func() {
			if d := get(t, server, "/?days=7"); d.status != http.StatusOK || len(find(d.root, class("panel"))) == 0 {
				t.Errorf("a reader got %d", d.status)
			}
		})
	}
	readers.Wait()
	looks := st.PoolStat().AcquireCount() - before
	seconds := int64(time.Since(began)/time.Second) + 1
	if most := 2*seconds + 20*(seconds/30); looks > most { // organizations and runs each second, all else twice a minute
		t.Errorf("50 readers had the database asked %d times in %d s, want %d at most", looks, seconds, most)
	}
}
