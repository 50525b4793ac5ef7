//go:build browser

package web_test

import (
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"testing"
	"time"
)

//go:embed testdata/audit.js
var auditScript string

// violations is a script that notes what the page does that it must not.
const violations = `
window.violations = [];
addEventListener("securitypolicyviolation", (e) => violations.push("policy: " + e.violatedDirective + " " + e.blockedURI));
addEventListener("error", (e) => violations.push("error: " + (e.message || e.target?.src || e.target?.href)), true);
addEventListener("unhandledrejection", (e) => violations.push("rejection: " + e.reason));`

// A reader is a tab of the browser.
type reader struct {
	testing.TB
	browser *chromium
	session string // of the tab
	base    string // of the page
}

// A look is how a reader sees the page.
type look struct {
	width, height int64
	dark          bool
}

// String names the look.
func (l look) String() string {
	scheme := "light"
	if l.dark {
		scheme = "dark"
	}
	return fmt.Sprintf("%d-%s", l.width, scheme)
}

var (
	desktop    = look{width: 1280, height: 900}
	phone      = look{width: 390, height: 844}
	phoneDark  = look{width: 390, height: 844, dark: true}
	smallPhone = look{width: 320, height: 568}
	tablet     = look{width: 720, height: 1024}
)

func newReader(t testing.TB, browser *chromium, base string, as look) *reader {
	t.Helper()
	r := &reader{TB: t, browser: browser, base: base}
	tab := call[struct{ TargetID string }](r, "Target.createTarget", parameters{"url": "about:blank"}).TargetID
	t.Cleanup(func() { _, _ = browser.call("", "Target.closeTarget", parameters{"targetId": tab}) })
	r.session = call[struct{ SessionID string }](r, "Target.attachToTarget", parameters{"targetId": tab, "flatten": true}).SessionID
	scheme := "light"
	if as.dark {
		scheme = "dark"
	}
	r.do("Page.enable", nil)
	r.do("Emulation.setDeviceMetricsOverride", parameters{"width": as.width, "height": as.height, "deviceScaleFactor": 1, "mobile": as.width < 500})
	r.do("Emulation.setEmulatedMedia", parameters{"features": []parameters{{"name": "prefers-color-scheme", "value": scheme}}})
	// A tab behind another is hidden, and then does not ask for news.
	r.do("Emulation.setFocusEmulationEnabled", parameters{"enabled": true})
	r.do("Page.addScriptToEvaluateOnNewDocument", parameters{"source": violations})
	return r
}

// call sends a command to the tab, or to the browser before there is one.
func call[T any](r *reader, method string, params parameters) T {
	r.Helper()
	var result T
	raw, err := r.browser.call(r.session, method, params)
	if err == nil {
		err = json.Unmarshal(raw, &result)
	}
	if err != nil {
		r.Fatal(err)
	}
	return result
}

func (r *reader) do(method string, params parameters) {
	r.Helper()
	call[struct{}](r, method, params)
}

// open loads a path.
func (r *reader) open(path string) {
	r.Helper()
	if said := call[struct{ ErrorText string }](r, "Page.navigate", parameters{"url": r.base + path}).ErrorText; said != "" {
		r.Fatalf("open %s: %s", path, said)
	}
	r.wait(`document.readyState === "complete"`)
}

const (
	tab   = "Tab"
	enter = "Enter"
)

// key presses and releases a key.
func (r *reader) key(name string) {
	r.Helper()
	key := parameters{"type": "keyDown", "key": name, "code": name, "windowsVirtualKeyCode": 9}
	if name == enter {
		key["windowsVirtualKeyCode"], key["text"] = 13, "\r"
	}
	r.do("Input.dispatchKeyEvent", key)
	delete(key, "text")
	key["type"] = "keyUp"
	r.do("Input.dispatchKeyEvent", key)
}

func (r *reader) focus(selector string) {
	r.Helper()
	eval[any](r, fmt.Sprintf(`document.querySelector(%q).focus()`, selector))
}

// enter writes into a field and presses the enter key.
func (r *reader) enter(selector, text string) {
	r.Helper()
	r.focus(selector)
	r.do("Input.insertText", parameters{"text": text})
	r.key(enter)
}

// click presses the mouse's button on the middle of an element.
func (r *reader) click(selector string) {
	r.Helper()
	at := eval[struct{ X, Y, Width, Height float64 }](r, fmt.Sprintf(`(() => {
  const n = document.querySelector(%q);
  n.scrollIntoView({block: "center"});
  return n.getBoundingClientRect().toJSON();
})()`, selector))
	for _, kind := range []string{"mousePressed", "mouseReleased"} {
		r.do("Input.dispatchMouseEvent", parameters{"type": kind, "button": "left", "clickCount": 1, "x": at.X + at.Width/2, "y": at.Y + at.Height/2})
	}
}

// see waits until an element is visible.
func (r *reader) see(selector string) {
	r.Helper()
	r.wait(fmt.Sprintf(`document.querySelector(%q)?.checkVisibility() === true`, selector))
}

// text is what there is to read in an element.
func (r *reader) text(selector string) string {
	r.Helper()
	return eval[string](r, fmt.Sprintf(`document.querySelector(%q).innerText`, selector))
}

// eval is what an expression says in the page.
func eval[T any](r *reader, expression string) T {
	r.Helper()
	value, err := tryEval[T](r, expression)
	if err != nil {
		r.Fatalf("%s: %v", expression, err)
	}
	return value
}

func tryEval[T any](r *reader, expression string) (value T, err error) {
	raw, err := r.browser.call(r.session, "Runtime.evaluate", parameters{"expression": expression, "returnByValue": true, "awaitPromise": true})
	if err != nil {
		return value, err
	}
	var said struct {
		Result           struct{ Value json.RawMessage }
		ExceptionDetails *struct{ Exception struct{ Description string } }
	}
	if err := json.Unmarshal(raw, &said); err != nil {
		return value, err
	}
	if said.ExceptionDetails != nil {
		return value, errors.New(said.ExceptionDetails.Exception.Description)
	}
	if said.Result.Value == nil {
		return value, nil // undefined
	}
	return value, json.Unmarshal(said.Result.Value, &value)
}

// wait waits until an expression is true in the page. An error is no answer: the
// page may be changing into the next.
func (r *reader) wait(expression string) {
	r.Helper()
	giveUp := time.NewTimer(patience)
	defer giveUp.Stop()
	ticker := time.NewTicker(50 * time.Millisecond)
	defer ticker.Stop()
	for {
		is, err := tryEval[bool](r, expression)
		if is {
			return
		}
		select {
		case <-ticker.C:
		case <-giveUp.C:
			r.Fatalf("never: %s (%v)\n%s", expression, err, eval[string](r, `document.body.innerText`))
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
