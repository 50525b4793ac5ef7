package web_test

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"golang.org/x/net/html"

	"polarmirror/internal/polarsim"
)

// TestEveryPage asks the pages of one mirror for what is true of all of them.
func TestEveryPage(t *testing.T) {
	t.Parallel()
	e := newEnv(t, polarsim.Organization{Name: "acme", CustomerMeters: 60}, polarsim.Organization{Name: "globex", CustomerMeters: 12})
	e.backfill()
	e.addHistory(3)
	server := e.page()
	for name, test := range map[string]func(*testing.T, *env, *httptest.Server){
		"what is not there is not found":          notFound,
		"the page can only be read":               onlyRead,
		"every answer forbids what it needs not":  strict,
		"no script is needed":                     withoutScript,
		"live answers with the parts of the page": liveParts,
	} {
		t.Run(name, func(t *testing.T) { test(t, e, server) })
	}
}

func notFound(t *testing.T, e *env, server *httptest.Server) {
	for _, path := range []string{"/nothing", "/customers/x", "/customers/00000000-0000-4000-8000-000000000000", "/meters/x",
		"/meters/00000000-0000-4000-8000-000000000000", "/organizations/other", "/live?organization=other", "/runs?organization=other",
		"/customers?organization=other", "/assets/home.html", "/assets/", "/organizations/"} {
		if d := get(t, server, path); d.status != http.StatusNotFound {
			t.Errorf("GET %s: %d", path, d.status)
		}
	}
}

func onlyRead(t *testing.T, _ *env, server *httptest.Server) {
	for _, method := range []string{http.MethodPost, http.MethodPut, http.MethodDelete, http.MethodPatch, http.MethodOptions, "BREW"} {
		for _, path := range []string{"/", "/customers", "/live", "/nothing"} {
			request, err := http.NewRequestWithContext(t.Context(), method, server.URL+path, strings.NewReader("x=1"))
			if err != nil {
				t.Fatal(err)
			}
			answer, err := server.Client().Do(request)
			if err != nil {
				t.Fatal(err)
			}
			answer.Body.Close()
			if answer.StatusCode != http.StatusMethodNotAllowed || answer.Header.Get("Allow") != "GET, HEAD" {
				t.Errorf("%s %s: %d, allowed %q", method, path, answer.StatusCode, answer.Header.Get("Allow"))
			}
		}
	}
	answer, err := server.Client().Head(server.URL + "/")
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	if body, _ := io.ReadAll(answer.Body); answer.StatusCode != http.StatusOK || len(body) > 0 {
		t.Errorf("HEAD /: %d with %d bytes", answer.StatusCode, len(body))
	}
}

func strict(t *testing.T, e *env, server *httptest.Server) {
	for _, path := range e.paths() {
		h := get(t, server, path).header
		policy := h.Get("Content-Security-Policy")
		if !strings.Contains(policy, "default-src 'none'") || strings.Contains(policy, "unsafe") || strings.Contains(policy, "*") {
			t.Errorf("%s: policy %q", path, policy)
		}
		if h.Get("X-Content-Type-Options") != "nosniff" || h.Get("Cache-Control") != "no-store" || h.Get("Referrer-Policy") == "" {
			t.Errorf("%s: header %v", path, h)
		}
	}
}

// withoutScript: everything is there as it is served, forms are plain
// ones, and the script is one file from here.
func withoutScript(t *testing.T, e *env, server *httptest.Server) {
	d := complete(t, server, "/")
	for what, match := range map[string]func(*html.Node) bool{"organizations": class("organizations"), "runs": class("runs")} {
		if len(rows(d.one(match))) == 0 {
			t.Errorf("no %s without the script", what)
		}
	}
	panels := find(d.root, class("panel"))
	if len(panels) != 6 {
		t.Fatalf("%d meters, want 6", len(panels))
	}
	for _, panel := range panels {
		if charts, rankings := find(panel, class("chart")), find(panel, class("ranking")); len(charts) != 2 || len(rankings) != 2 {
			t.Errorf("%d charts and %d rankings of a meter, want 2 and 2", len(charts), len(rankings))
		}
	}
	for _, path := range e.paths() {
		d := get(t, server, path)
		for _, form := range find(d.root, tag("form")) {
			if method, _ := attribute(form, "method"); method != "get" {
				t.Errorf("%s: a form with method %q", path, method)
			}
		}
		for _, name := range []string{"src", "href"} {
			for _, n := range find(d.root, with(name, "*")) {
				file, _ := attribute(n, name)
				if strings.HasPrefix(file, "/assets/") {
					ok(t, server, file)
				}
			}
		}
	}
}

func liveParts(t *testing.T, _ *env, server *httptest.Server) {
	for path, live := range map[string]string{"/": "/live", "/organizations/acme": "/live?organization=acme"} {
		d := complete(t, server, path)
		if from, _ := attribute(d.one(tag("body")), "data-live-from"); from != live {
			t.Errorf("%s asks %q for news", path, from)
		}
		fresh := ok(t, server, live)
		for _, part := range find(fresh.root, with("data-live", "*")) {
			name, _ := attribute(part, "data-live")
			old := d.one(with("data-live", name))
			if old.Data != part.Data || len(find(old, tag("tr"))) != len(find(part, tag("tr"))) {
				t.Errorf("%s: part %s is of another shape", live, name)
			}
		}
		if n := len(find(fresh.root, with("data-live", "*"))); n < 5 {
			t.Errorf("%s: %d parts", live, n)
		}
	}
}
