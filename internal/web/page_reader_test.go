//go:build browser

package web_test

import (
	"context"
	_ "embed"
	"os"
	"testing"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/page"
	"github.com/chromedp/chromedp"
)

//go:embed testdata/audit.js
var auditScript string

// violations is a script that notes what the page does that it must not.
const violations = `
window.violations = [];
addEventListener("securitypolicyviolation", (e) => violations.push("policy: " + e.violatedDirective + " " + e.blockedURI));
addEventListener("error", (e) => violations.push("error: " + (e.message || e.target?.src || e.target?.href)), true);
addEventListener("unhandledrejection", (e) => violations.push("rejection: " + e.reason));`

// newBrowser starts a headless Chromium.
func newBrowser(t *testing.T) context.Context {
	t.Helper()
	opts := chromedp.DefaultExecAllocatorOptions[:]
	if os.Getuid() == 0 {
		opts = append(opts, chromedp.NoSandbox) // Chromium refuses to start as root with one
	}
	allocator, closeAllocator := chromedp.NewExecAllocator(context.WithoutCancel(t.Context()), opts...)
	browser, closeBrowser := chromedp.NewContext(allocator)
	t.Cleanup(func() {
		closeBrowser()
		closeAllocator()
	})
	if err := chromedp.Do(browser); err != nil {
		t.Fatalf("these tests need Chromium (apt-get install chromium): %v", err)
	}
	return browser
}

// A reader is a tab of the browser.
type reader struct {
	testing.TB
	ctx  context.Context
	base string // of the page
}

// A look is how a reader sees the page.
type look struct {
	width, height int64
	dark          bool
}

// String names the look.
func (l look) String() string {
	name := "desktop"
	switch {
	case l.width < 500:
		name = "phone"
	case l.height > 1000:
		name = "readme"
	}
	if l.dark {
		name += "-dark"
	}
	return name
}

var (
	readme      = look{width: 1200, height: 1475}
	readmeDark  = look{width: 1200, height: 1475, dark: true}
	desktop     = look{width: 1280, height: 900}
	desktopDark = look{width: 1280, height: 900, dark: true}
	phone       = look{width: 390, height: 844}
	phoneDark   = look{width: 390, height: 844, dark: true}
)

func newReader(t testing.TB, browser context.Context, base string, as look) *reader {
	t.Helper()
	tab, closeTab := chromedp.NewContext(browser)
	t.Cleanup(closeTab)
	r := &reader{TB: t, ctx: tab, base: base}
	r.do()
	scheme := "light"
	if as.dark {
		scheme = "dark"
	}
	call(r, emulation.SetDeviceMetricsOverride, emulation.SetDeviceMetricsOverrideParams{Width: as.width, Height: as.height, DeviceScaleFactor: 1, Mobile: as.width < 500})
	call(r, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{Features: []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: scheme}}})
	// A tab behind another is hidden, and then does not ask for news.
	call(r, emulation.SetFocusEmulationEnabled, emulation.SetFocusEmulationEnabledParams{Enabled: true})
	call(r, page.AddScriptToEvaluateOnNewDocument, page.AddScriptToEvaluateOnNewDocumentParams{Source: violations})
	return r
}

// call sends a command of the DevTools protocol.
func call[P, R any](r *reader, command cdp.Command[P, R], params P) {
	r.Helper()
	if _, err := chromedp.Call(r.ctx, command, params); err != nil {
		r.Fatal(err)
	}
}

func (r *reader) do(steps ...chromedp.Action[chromedp.Void]) {
	r.Helper()
	if err := chromedp.Do(r.ctx, steps...); err != nil {
		r.Fatal(err)
	}
}

// open loads a path.
func (r *reader) open(path string) {
	r.Helper()
	r.do(chromedp.Navigate(r.base + path))
}

func (r *reader) key(keys string) {
	r.Helper()
	r.do(chromedp.KeyEvent(keys))
}

// eval is what an expression says in the page.
func eval[T any](r *reader, expression string) T {
	r.Helper()
	value, err := chromedp.Run(r.ctx, chromedp.Evaluate[T](expression, chromedp.EvalAwaitPromise))
	if err != nil {
		r.Fatalf("%s: %v", expression, err)
	}
	return value
}

// wait waits until an expression is true in the page.
func (r *reader) wait(expression string) {
	r.Helper()
	giveUp := time.NewTimer(patience)
	defer giveUp.Stop()
	ticker := time.NewTicker(50 * time.Millisecond)
	defer ticker.Stop()
	for !eval[bool](r, expression) {
		select {
		case <-ticker.C:
		case <-giveUp.C:
			r.Fatalf("never: %s\n%s", expression, eval[string](r, `document.body.innerText`))
		}
	}
}

// clean fails if the page did what it must not.
func (r *reader) clean() {
	r.Helper()
	for _, v := range eval[[]string](r, `window.violations`) {
		r.Errorf("%s: %s", eval[string](r, `location.pathname`), v)
	}
}
