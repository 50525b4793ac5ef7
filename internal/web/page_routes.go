package web

import (
	"bytes"
	"context"
	"errors"
	"net/http"
	"net/url"
	"time"

	"go.uber.org/zap"
)

// policy lets the page load its own style sheet, script and icon, and nothing
// else: no inline style or script, no other origin, no frame, no form but to
// itself.
const policy = "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self'; connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"

func (p *Page) routes() *http.ServeMux {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", p.page(p.home))
	mux.HandleFunc("GET /organizations/{name}", p.page(p.organization))
	mux.HandleFunc("GET /meters/{id}", p.page(p.meter))
	mux.HandleFunc("GET /customers", p.page(p.customerSearch))
	mux.HandleFunc("GET /customers/{id}", p.page(p.customer))
	mux.HandleFunc("GET /runs", p.page(p.runList))
	mux.HandleFunc("GET /live", p.page(p.live))
	mux.HandleFunc("GET /assets/{file}", p.asset)
	mux.HandleFunc("/", p.page(func(*http.Request) (*reply, error) { return nil, errNotFound }))
	return mux
}

// ServeHTTP answers GET and HEAD, and nothing else.
func (p *Page) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	h.Set("Content-Security-Policy", policy)
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Referrer-Policy", "same-origin")
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		h.Set("Allow", "GET, HEAD")
		http.Error(w, "the status page takes no "+http.StatusText(http.StatusMethodNotAllowed), http.StatusMethodNotAllowed)
		return
	}
	p.mux.ServeHTTP(w, r)
}

// errNotFound means that there is no such thing to show.
var errNotFound = errors.New("not found")

// A reply is what a page shows.
type reply struct {
	view  string // whose templates
	entry string // the one that is the answer; "" for the whole page
	frame
}

// A frame is what stands around every page.
type frame struct {
	Title  string
	Place  string // entry of the navigation
	Live   string // where the script asks for what changes; "" if nothing does
	NoFind bool   // the page has a search box of its own
	Body   any

	Version string
	At      string
	Assets  assetPaths
}

// page makes a handler of a function that says what to show.
func (p *Page) page(answer func(*http.Request) (*reply, error)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		status := http.StatusOK
		reply, err := answer(r)
		if err != nil {
			status, reply = p.failure(r, err)
		}
		if reply == nil {
			return // nobody waits for it
		}
		reply.Version, reply.At, reply.Assets = p.opts.Version, absolute(p.now()), p.views.paths
		var body bytes.Buffer
		if reply.entry == "" {
			reply.entry = "frame"
		}
		if err := p.views.render(&body, reply.view, reply.entry, reply.frame); err != nil {
			p.log.Error("page not rendered", zap.String("page", r.URL.Path), zap.Error(err))
			http.Error(w, "the page could not be rendered; the log says why", http.StatusInternalServerError)
			return
		}
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		w.Header().Set("Cache-Control", "no-store") // it holds personal data
		w.WriteHeader(status)
		_, _ = w.Write(body.Bytes()) // else the reader is gone
	}
}

// A failed is the body of a page that says what went wrong.
type failed struct {
	Trust  trust
	Advice string
}

// failure says what went wrong in terms of what to do. What the database said
// goes to the log: it may be about more than the reader should know.
func (p *Page) failure(r *http.Request, err error) (int, *reply) {
	status, body := http.StatusServiceUnavailable, failed{
		Trust:  trust{Grade: bad, Sentence: "The database does not answer."},
		Advice: "Nothing can be said about the mirror until it does. Runs wait for it as well; see /readyz and the log.",
	}
	switch {
	case errors.Is(err, errNotFound):
		status, body = http.StatusNotFound, failed{
			Trust:  trust{Grade: waiting, Sentence: "There is no such page."},
			Advice: "What it was about may have another name now, or is not mirrored here.",
		}
	case r.Context().Err() != nil:
		return status, nil
	case errors.Is(err, errNotReady), errors.Is(err, context.DeadlineExceeded):
		body.Trust.Sentence = "The database takes too long to answer."
		fallthrough
	default:
		if p.failures.due(p.now()) {
			p.log.Error("page failed", zap.String("page", r.URL.Path), zap.Error(err))
		}
	}
	answer := &reply{view: "failure", frame: frame{Title: body.Trust.Sentence, Body: body}}
	if r.URL.Path == "/live" {
		answer.entry = "live-failure"
	}
	return status, answer
}

// asset serves what never changes under its name.
func (p *Page) asset(w http.ResponseWriter, r *http.Request) {
	a, ok := p.views.assets[r.PathValue("file")]
	if !ok {
		p.page(func(*http.Request) (*reply, error) { return nil, errNotFound })(w, r)
		return
	}
	w.Header().Set("Content-Type", a.kind)
	w.Header().Set("Cache-Control", "public, max-age=31536000, immutable")
	http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(a.body))
}

func organizationPath(name string) string { return "/organizations/" + url.PathEscape(name) }
func customerPath(id string) string       { return "/customers/" + url.PathEscape(id) }
func meterPath(id string) string          { return "/meters/" + url.PathEscape(id) }
