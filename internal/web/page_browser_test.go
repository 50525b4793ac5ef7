//go:build browser

package web_test

import (
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"polarmirror/internal/polarsim"
)

func TestPageInBrowser(t *testing.T) {
	t.Parallel()
	browser := newBrowser(t)
	e := newEnv(t,
		polarsim.Organization{Name: "acme", CustomerMeters: 150},
		polarsim.Organization{Name: "globex", CustomerMeters: 30, Meters: 3},
	)
	e.backfill()
	e.addHistory(6)
	e.exec(`
INSERT INTO polar.sync_runs (organization_id, started_at, finished_at, kind, status, error)
SELECT id, now(), now(), 'incremental', 'failed', 'organization globex: Polar answered 401: the token is wrong, expired or revoked'
  FROM polar.organizations WHERE name = 'globex'`)
	e.exec(`INSERT INTO polar.sync_runs (organization_id, started_at, kind, status) SELECT id, now(), 'full', 'running' FROM polar.organizations WHERE name = 'globex'`)
	server := e.page()
	for _, path := range e.paths() {
		if path != "/nothing" {
			complete(t, server, path)
		}
	}
	t.Run("without scripts", func(t *testing.T) { withoutScripts(t, newReader(t, browser, server.URL, phone), e) })
	t.Run("by keyboard", func(t *testing.T) { byKeyboard(t, newReader(t, browser, server.URL, desktop)) })
	// These two mostly wait.
	t.Run("a run moves its bar", func(t *testing.T) { t.Parallel(); barMoves(t, browser) })
	t.Run("lost server", func(t *testing.T) { t.Parallel(); lostServer(t, browser, e) })
	t.Run("audit finds faults", func(t *testing.T) { auditFinds(t, newReader(t, browser, server.URL, phone)) })
	for _, as := range []look{desktop, tablet, phoneDark, smallPhone} {
		t.Run("accessible on "+as.String(), func(t *testing.T) {
			r := newReader(t, browser, server.URL, as)
			for _, path := range e.paths() {
				if strings.HasPrefix(path, "/live") {
					continue
				}
				r.open(path)
				for _, problem := range eval[[]string](r, auditScript) {
					t.Errorf("%s: %s", path, problem)
				}
				r.clean()
			}
			if dark := eval[bool](r, `matchMedia("(prefers-color-scheme: dark)").matches`); dark != as.dark {
				t.Errorf("dark is %t", dark)
			}
		})
	}
}

// auditFinds spoils the page in ways that the audit has to find.
func auditFinds(t *testing.T, r *reader) {
	for fault, spoil := range map[string]string{
		"contrast":            `document.querySelector("h2:not(.hidden)").style.color = "#999"`,
		"drawing's contrast":  `document.querySelector(".of-consumed .mark").style.fill = "#eee"`,
		"labels overlap":      `document.querySelectorAll(".chart .below").forEach((n) => { n.style.width = "30px" })`,
		"no label":            `document.querySelector("#find").labels[0].remove()`,
		"no name":             `document.querySelector("article a").textContent = ""`,
		"id usage twice":      `document.querySelector("footer").id = "usage"`,
		"heading skips":       `document.querySelector("h2").remove(), document.querySelectorAll("h2").forEach((h) => h.remove())`,
		"without a caption":   `document.querySelector("table.runs").caption.remove()`,
		"without a scope":     `document.querySelector("thead th").removeAttribute("scope")`,
		"a drawing is read":   `document.querySelector(".chart svg").removeAttribute("aria-hidden")`,
		"wide in":             `document.querySelector("h1").style.width = "2000px"`,
		"nothing is read out": `document.querySelectorAll("[role=status]").forEach((n) => n.remove())`,
	} {
		r.open("/")
		eval[any](r, spoil+`, null`)
		if found := strings.Join(eval[[]string](r, auditScript), "\n"); !strings.Contains(found, fault) {
			t.Errorf("the audit does not find %q after %s: %s", fault, spoil, found)
		}
	}
}

// barMoves begins a walk while somebody looks at the page.
func barMoves(t *testing.T, browser *chromium) {
	e := newEnv(t, polarsim.Organization{Name: "acme", CustomerMeters: 2000})
	server := e.page()
	r := newReader(t, browser, server.URL, desktop)
	r.open("/")
	r.focus(".name")
	g, finish := e.slowly()
	r.wait(`document.querySelector("progress") !== null`)
	served := func() int { // -1 while the page does not say
		percent, err := strconv.Atoi(bar(ok(t, server, "/live"), "acme"))
		if err != nil {
			return -1
		}
		return percent
	}
	for at := -1; at < 20; {
		// Not every request moves the bar: some only find out where to begin.
		for before := at; at <= before; at = served() {
			select {
			case g.pass <- struct{}{}:
			case <-time.After(patience):
				t.Fatal("the walk ended early")
			}
		}
		r.wait(fmt.Sprintf(`Number(document.querySelector("progress").getAttribute("value") ?? -1) >= %d`, at))
	}
	if text := eval[string](r, `document.querySelector(".run .text").textContent`); !strings.Contains(text, " of 2,000 rows") {
		t.Errorf("beside the bar stands %q", text)
	}
	if spoken := eval[string](r, `document.querySelector("[data-live=spoken]").textContent`); !strings.Contains(spoken, "acme: full run, ") {
		t.Errorf("read out is %q", spoken)
	}
	finish()
	r.wait(`document.querySelector("progress") === null && document.querySelector("h1").textContent === "acme is current."`)
	if title := eval[string](r, `document.title`); !strings.HasPrefix(title, "acme is current.") {
		t.Errorf("title %q", title)
	}
	if focus := eval[string](r, `document.activeElement.textContent`); focus != "acme" {
		t.Errorf("the focus went from acme to %q while the page changed", focus)
	}
	r.clean()
}

// withoutScripts turns scripts off and uses the page.
func withoutScripts(t *testing.T, r *reader, e *env) {
	r.do("Emulation.setScriptExecutionDisabled", parameters{"value": true})
	r.open("/")
	text := r.text("main")
	for _, want := range []string{"1 needs a look", "Recent runs", "Highest consumption"} {
		if !strings.Contains(text, want) {
			t.Errorf("the page lacks %q:\n%s", want, text)
		}
	}
	name := e.value(`SELECT name FROM polar.customers WHERE name ~ '^[A-Za-z ]+$' ORDER BY id LIMIT 1`)
	r.enter("#find", name)
	r.see(".customers")
	if found := r.text(".customers .name"); !strings.Contains(found, name) {
		t.Errorf("found %q, want %q", found, name)
	}
	r.click(".customers .name")
	r.see(".balances")
}

// byKeyboard walks through the page with the tabulator key.
func byKeyboard(t *testing.T, r *reader) {
	const focus = `(() => {
  const a = document.activeElement, s = getComputedStyle(a), box = a.getBoundingClientRect();
  return [a === document.body ? "" : a.outerHTML.slice(0, 80),
    s.outlineStyle !== "none" && parseFloat(s.outlineWidth) >= 2 ? "visible" : "invisible",
    box.width > 0 && box.right > 0 && box.bottom > 0 && box.left < innerWidth && box.top < innerHeight ? "inside" : "outside",
    String([...document.querySelectorAll("*")].indexOf(a))];
})()`
	for _, path := range []string{"/", "/customers", "/runs"} {
		r.open(path)
		want := eval[int](r, `[...document.querySelectorAll("a[href], button, input, select, summary, [tabindex='0']")].filter((n) => n.checkVisibility()).length`)
		last, reached := -1, 0
		for range want + 1 {
			r.key(tab)
			at := eval[[]string](r, focus)
			if at[0] == "" {
				break
			}
			reached++
			place, _ := strconv.Atoi(at[3])
			if at[1] != "visible" || at[2] != "inside" || place <= last {
				t.Errorf("%s: stop %d is %s, %s, at %d after %d: %s", path, reached, at[1], at[2], place, last, at[0])
			}
			last = place
		}
		if reached != want {
			t.Errorf("%s: %d of %d stops reached", path, reached, want)
		}
	}
	r.open("/")
	r.key(tab)
	r.key(enter)
	if at := eval[string](r, `document.activeElement.id`); at != "main" {
		t.Errorf("the first link skips to %q, want main", at)
	}
	r.clean()
}

// lostServer takes the server away from an open page.
func lostServer(t *testing.T, browser *chromium, e *env) {
	server := e.page()
	r := newReader(t, browser, server.URL, desktop)
	r.open("/")
	r.wait(`document.querySelector("[data-live-note]").textContent === "Kept up to date."`)
	server.CloseClientConnections()
	server.Listener.Close()
	r.wait(`Boolean(document.querySelector("[data-live-note].lost")?.textContent.includes("lost"))`)
}
