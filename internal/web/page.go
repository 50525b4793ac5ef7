package web

import (
	"bytes"
	"context"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"errors"
	"fmt"
	"html/template"
	"net/http"
	"net/url"
	"path"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/google/uuid"
	"github.com/robfig/cron/v3"
	"go.uber.org/zap"
	"golang.org/x/time/rate"

	"polarmirror/internal/store"
)

// PageOptions are what the status page needs.
type PageOptions struct {
	Store    *store.Store
	Settings PageSettings
	Walks    *Walks // of this process; nil: what the database knows of them
	Version  string // of syncd, for the foot of the page
	Log      *zap.Logger

	Now func() time.Time // nil means time.Now
}

// PageSettings are what the page shows of the configuration. No secret is
// among them.
type PageSettings struct {
	Organizations     []PageOrganization
	Incremental, Full cron.Schedule // nil means never
	MaxLag            time.Duration // age of the data beyond which it is stale; 0 means never
}

// A PageOrganization is a configured organization.
type PageOrganization struct {
	Name              string
	Token             [sha256.Size]byte // of the token, whose budget is shared by those that share it
	RequestsPerMinute int               // with that token; 0 means no limit
}

// A Page is the status page: whether the mirror can be trusted, what it did
// lately, and what it holds. It writes nothing and takes no parameter that
// changes anything. It is an [http.Handler] for "/".
//
// What a load costs the database: some index look-ups an organization, at most
// once a second however many look. Sums and rankings over the whole mirror are
// made at most twice a minute, and never take more than a tenth of the time: see
// cache.
type Page struct {
	opts      PageOptions
	log       *zap.Logger
	now       func() time.Time
	mux       *http.ServeMux
	templates map[string]*template.Template
	assets    map[string][]byte

	ctx    context.Context // of loads, which outlive requests
	cancel context.CancelFunc
	loads  sync.WaitGroup

	// One connection each is all that the page ever takes of the pool: runs and
	// webhooks need theirs.
	quick, heavy chan struct{}

	organizations *cache[struct{}, organizations]
	runs          *cache[store.RunsQuery, []store.RunRecord]
	customers     *cache[store.CustomersQuery, []store.ListedCustomer]
	meters        *cache[struct{}, []store.Meter]
	rankings      *cache[uuid.UUID, store.Ranking] // by meter
	counts        *cache[uuid.UUID, int64]         // of customers, by organization
	counted       *cache[uuid.UUID, struct{}]      // fills usage, by organization
	usage         usageCache

	failures rate.Sometimes // every request during an outage has one
}

const (
	quickLimit = 5 * time.Second  // of one statement that a page waits for
	heavyLimit = 20 * time.Second // of one that it doesn't
	// patience is how long a page waits for what it can do without.
	patience = 2 * time.Second
)

// NewPage returns the status page. Close it when it is no longer served.
func NewPage(o PageOptions) (*Page, error) {
	p := &Page{opts: o, log: o.Log, now: o.Now, quick: make(chan struct{}, 1), heavy: make(chan struct{}, 1)}
	if p.now == nil {
		p.now = time.Now
	}
	if p.log == nil {
		p.log = zap.NewNop()
	}
	if err := p.parse(); err != nil {
		return nil, err
	}
	p.failures.Interval = time.Minute
	p.ctx, p.cancel = context.WithCancel(context.Background())
	p.organizations = newCache(p, time.Second, 3*time.Second, p.loadOrganizations)
	p.runs = newCache(p, time.Second, 3*time.Second, func(ctx context.Context, q store.RunsQuery) ([]store.RunRecord, error) {
		return look(ctx, p, p.quick, func(v *store.View) ([]store.RunRecord, error) { return v.Runs(ctx, q) })
	})
	p.customers = newCache(p, 5*time.Second, time.Minute, func(ctx context.Context, q store.CustomersQuery) ([]store.ListedCustomer, error) {
		return look(ctx, p, p.quick, func(v *store.View) ([]store.ListedCustomer, error) { return v.Customers(ctx, q) })
	})
	p.meters = newCache(p, 30*time.Second, time.Hour, func(ctx context.Context, _ struct{}) ([]store.Meter, error) {
		return look(ctx, p, p.heavy, func(v *store.View) ([]store.Meter, error) { return v.Meters(ctx) })
	})
	p.rankings = newCache(p, 30*time.Second, time.Hour, func(ctx context.Context, meter uuid.UUID) (store.Ranking, error) {
		return look(ctx, p, p.heavy, func(v *store.View) (store.Ranking, error) { return v.Ranking(ctx, meter, meterPlaces) })
	})
	p.counts = newCache(p, time.Minute, time.Hour, func(ctx context.Context, organization uuid.UUID) (int64, error) {
		return look(ctx, p, p.heavy, func(v *store.View) (int64, error) { return v.CountCustomers(ctx, organization) })
	})
	p.counted = newCache(p, 30*time.Second, time.Hour, p.countUsage)
	p.mux = http.NewServeMux()
	p.mux.HandleFunc("GET /{$}", p.page(p.home))
	p.mux.HandleFunc("GET /organizations/{name}", p.page(p.organization))
	p.mux.HandleFunc("GET /live", p.page(p.live))
	p.mux.HandleFunc("GET /meters/{id}", p.page(p.meter))
	p.mux.HandleFunc("GET /customers", p.page(p.customerList))
	p.mux.HandleFunc("GET /customers/{id}", p.page(p.customer))
	p.mux.HandleFunc("GET /runs", p.page(p.runList))
	p.mux.HandleFunc("GET /assets/{file}", p.asset)
	p.mux.HandleFunc("/", p.page(func(*http.Request) (*reply, error) { return nil, errNotFound }))
	return p, nil
}

// Close ends what goes on behind the page and waits for it.
func (p *Page) Close() {
	p.cancel()
	p.loads.Wait()
}

// look calls use with a snapshot of the database when it is its turn in the lane,
// quick or heavy.
func look[T any](ctx context.Context, p *Page, lane chan struct{}, use func(*store.View) (T, error)) (value T, err error) {
	select {
	case lane <- struct{}{}:
	case <-ctx.Done():
		return value, ctx.Err()
	}
	defer func() { <-lane }()
	limit := quickLimit
	if lane == p.heavy {
		limit = heavyLimit
	}
	// Beyond the limit of a statement, for a server that does not answer at all.
	ctx, cancel := context.WithTimeout(ctx, 2*limit)
	defer cancel()
	err = p.opts.Store.View(ctx, limit, func(v *store.View) error {
		value, err = use(v)
		return err
	})
	return value, err
}

// ServeHTTP answers GET and HEAD, and nothing else.
func (p *Page) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	secureHeaders(w.Header())
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		w.Header().Set("Allow", "GET, HEAD")
		answerText(w, http.StatusMethodNotAllowed, "the status page can only be read")
		return
	}
	p.mux.ServeHTTP(w, r)
}

// errNotFound means that there is no such thing to show.
var errNotFound = errors.New("not found")

// A reply is what a page shows: a frame with the content of one template file.
type reply struct {
	view  string // the file
	entry string // the template that is the answer; "" for the whole page
	Title string
	Place string // entry of the navigation
	Live  string // where the script asks for what changes; "" if nothing does
	Body  any

	Version string
	At      time.Time
}

// page makes a handler of a function that says what to show.
func (p *Page) page(show func(*http.Request) (*reply, error)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		ctx, cancel := context.WithTimeout(r.Context(), quickLimit)
		defer cancel()
		status := http.StatusOK
		answer, err := show(r.WithContext(ctx))
		if err != nil {
			if r.Context().Err() != nil {
				return // nobody waits for it
			}
			status, answer = p.failure(r, err)
		}
		answer.Version, answer.At = p.opts.Version, p.now()
		if answer.entry == "" {
			answer.entry = "frame"
		}
		var body bytes.Buffer
		if err := p.templates[answer.view].ExecuteTemplate(&body, answer.entry, answer); err != nil {
			p.log.Error("page not rendered", zap.String("page", r.URL.Path), zap.Error(err))
			answerText(w, http.StatusInternalServerError, "the page could not be rendered; the log says why")
			return
		}
		w.Header().Set("Content-Type", "text/html; charset=utf-8") // not to be stored: it holds personal data
		w.WriteHeader(status)
		_, _ = w.Write(body.Bytes()) // else the reader is gone
	}
}

// failure says what went wrong in terms of what to do. What the database said
// goes to the log: it may be about more than the reader should know.
func (p *Page) failure(r *http.Request, err error) (int, *reply) {
	body := struct {
		Headline headline
		Advice   string
	}{
		headline{Grade: bad, Sentence: "The database does not answer."},
		"Nothing can be said about the mirror until it does. Runs wait for it as well; see /readyz and the log.",
	}
	status := http.StatusServiceUnavailable
	if errors.Is(err, errNotFound) {
		status = http.StatusNotFound
		body.Headline = headline{Grade: waiting, Sentence: "There is no such page."}
		body.Advice = "What it was about may have another name now, or is not mirrored here."
	} else {
		if errors.Is(err, errNotReady) || errors.Is(err, context.DeadlineExceeded) {
			body.Headline.Sentence = "The database takes too long to answer."
		}
		p.failures.Do(func() { p.log.Error("page failed", zap.String("page", r.URL.Path), zap.Error(err)) })
	}
	answer := &reply{view: "failure", Title: body.Headline.Sentence, Body: body}
	if r.URL.Path == "/live" {
		answer.entry = "live-failure"
	}
	return status, answer
}

// incomplete says why a part is missing on a page that does without it.
func (p *Page) incomplete(what string, err error) string {
	switch {
	case err == nil:
		return ""
	case errors.Is(err, errNotReady), errors.Is(err, context.Canceled):
		return what + " is still being counted. Reload the page in a moment."
	}
	p.log.Warn("page incomplete", zap.String("missing", what), zap.Error(err))
	return what + " took the database too long. It will be tried again."
}

//go:embed page
var pageFiles embed.FS

// parse reads the templates, one set a page, and the files that they refer to.
// Those are served under names that change with their contents.
func (p *Page) parse() error {
	p.templates, p.assets = map[string]*template.Template{}, map[string][]byte{}
	paths := map[string]string{}
	for _, file := range []string{"page.css", "page.js", "icon.svg"} {
		body, err := pageFiles.ReadFile("page/" + file)
		if err != nil {
			return fmt.Errorf("read %s: %w", file, err)
		}
		sum := sha256.Sum256(body)
		name := hex.EncodeToString(sum[:4]) + "." + file
		p.assets[name], paths[file] = body, "/assets/"+name
	}
	shared, err := template.New("").Funcs(template.FuncMap{
		"about":    func(number string) string { return short(approximate(number), 3) },
		"asset":    func(file string) string { return paths[file] },
		"ago":      func(t time.Time) moment { return momentOf(p.now(), t) },
		"count":    count,
		"date":     dated,
		"duration": p.duration,
		"label":    label,
		"result":   resultOf,
		"number":   grouped,
		"plural":   plural,
		"signed":   signed,
		"ranking":  newRanking,
	}).ParseFS(pageFiles, "page/frame.html", "page/parts.html", "page/status.html", "page/usage.html")
	if err != nil {
		return fmt.Errorf("parse templates: %w", err)
	}
	for _, name := range []string{"home", "meter", "customers", "customer", "runs", "failure"} {
		p.templates[name], err = shared.Clone()
		if err == nil {
			_, err = p.templates[name].ParseFS(pageFiles, "page/"+name+".html")
		}
		if err != nil {
			return fmt.Errorf("parse template %s: %w", name, err)
		}
	}
	return nil
}

// asset serves what never changes under its name.
func (p *Page) asset(w http.ResponseWriter, r *http.Request) {
	name := r.PathValue("file")
	body, ok := p.assets[name]
	if !ok {
		p.page(func(*http.Request) (*reply, error) { return nil, errNotFound })(w, r)
		return
	}
	w.Header().Set("Cache-Control", "public, max-age=31536000, immutable")
	http.ServeContent(w, r, path.Base(name), time.Time{}, bytes.NewReader(body))
}

// A choice is a link to the same page with another setting.
type choice struct {
	Name, Path string
	Here       bool
}

// maxDays is how far back charts reach.
const maxDays = 90

// period returns how many days the charts of a page show, and what else there is to
// choose; part is where on the page they are.
func period(r *http.Request, part string) (days int, choices []choice) {
	periods := []int{7, 30, maxDays}
	days, _ = strconv.Atoi(r.URL.Query().Get("days"))
	if !slices.Contains(periods, days) {
		days = 30
	}
	for _, n := range periods {
		choices = append(choices, choice{
			Name: strconv.Itoa(n) + " days",
			Path: here(r, "days", strconv.Itoa(n)) + "#" + part,
			Here: n == days,
		})
	}
	return days, choices
}

// here is the path of r with one parameter changed; "" removes it.
func here(r *http.Request, name, value string) string {
	query := r.URL.Query()
	query.Set(name, value)
	if value == "" {
		query.Del(name)
	}
	link := url.URL{Path: r.URL.Path, RawQuery: query.Encode()}
	return link.String()
}
