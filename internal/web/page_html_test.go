package web_test

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/html"
)

// A document is an answer of the page.
type document struct {
	testing.TB
	path   string
	status int
	header http.Header
	raw    string
	root   *html.Node
}

// get asks the page for a path.
func get(t testing.TB, server *httptest.Server, path string) *document {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, server.URL+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	answer, err := server.Client().Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	body, err := io.ReadAll(answer.Body)
	if err != nil {
		t.Fatal(err)
	}
	root, err := html.Parse(strings.NewReader(string(body)))
	if err != nil {
		t.Fatal(err)
	}
	return &document{TB: t, path: path, status: answer.StatusCode, header: answer.Header, raw: string(body), root: root}
}

// ok asks for a path that must be there, and again while the page says that the
// database is slow: on a busy machine it is.
func ok(t testing.TB, server *httptest.Server, path string) *document {
	t.Helper()
	for began := time.Now(); ; {
		d := get(t, server, path)
		slow := d.status == http.StatusServiceUnavailable && strings.Contains(d.raw, "takes too long")
		if slow && time.Since(began) < 2*time.Minute {
			continue // the page itself waits for the database: no haste here
		}
		if d.status != http.StatusOK {
			t.Fatalf("GET %s: %d\n%s", path, d.status, d.raw)
		}
		return d
	}
}

// complete asks for a path until nothing on it is still being counted.
func complete(t testing.TB, server *httptest.Server, path string) *document {
	t.Helper()
	ticker := time.NewTicker(50 * time.Millisecond)
	defer ticker.Stop()
	for {
		d := ok(t, server, path)
		if !strings.Contains(d.raw, "being counted") && !strings.Contains(d.raw, "being made") {
			return d
		}
		select {
		case <-ticker.C:
		case <-t.Context().Done():
			t.Fatalf("GET %s: never complete", path)
		}
	}
}

// find returns the elements under node for which match is true.
func find(node *html.Node, match func(*html.Node) bool) []*html.Node {
	var found []*html.Node
	for n := range node.Descendants() {
		if n.Type == html.ElementNode && match(n) {
			found = append(found, n)
		}
	}
	return found
}

func tag(name string) func(*html.Node) bool {
	return func(n *html.Node) bool { return n.Data == name }
}

// with matches elements that have an attribute, of a value unless that is "*".
func with(name, value string) func(*html.Node) bool {
	return func(n *html.Node) bool {
		got, found := attribute(n, name)
		return found && (value == "*" || got == value)
	}
}

func class(name string) func(*html.Node) bool {
	return func(n *html.Node) bool {
		got, _ := attribute(n, "class")
		for _, c := range strings.Fields(got) {
			if c == name {
				return true
			}
		}
		return false
	}
}

func attribute(n *html.Node, name string) (string, bool) {
	for _, a := range n.Attr {
		if a.Key == name {
			return a.Val, true
		}
	}
	return "", false
}

// text is what a node says, spaces made one.
func text(n *html.Node) string {
	var b strings.Builder
	for d := range n.Descendants() {
		if d.Type == html.TextNode {
			b.WriteString(d.Data + " ")
		}
	}
	return strings.Join(strings.Fields(b.String()), " ")
}

// one returns the only element that matches.
func (d *document) one(match func(*html.Node) bool) *html.Node {
	d.Helper()
	found := find(d.root, match)
	if len(found) != 1 {
		d.Fatalf("%s: %d elements match, want 1\n%s", d.path, len(found), d.raw)
	}
	return found[0]
}

// rows are the texts of the cells of a table's body.
func rows(table *html.Node) [][]string {
	var list [][]string
	for _, body := range find(table, tag("tbody")) {
		for _, tr := range find(body, tag("tr")) {
			var cells []string
			for _, cell := range find(tr, func(n *html.Node) bool { return n.Data == "td" || n.Data == "th" }) {
				cells = append(cells, text(cell))
			}
			list = append(list, cells)
		}
	}
	return list
}

// digits is a number as shown without what sets it apart.
func digits(shown string) string { return strings.ReplaceAll(shown, ",", "") }

// large marks a test of many rows or processes. With -short it is left out: the
// race detector makes it slow, and has enough to look at without it.
func large(t *testing.T) {
	t.Helper()
	if testing.Short() {
		t.Skip("large, and -short")
	}
}
