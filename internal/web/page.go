package web

import (
	"bytes"
	"context"
	"crypto/sha256"
	"embed"
	"errors"
	"html/template"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"time"

	"github.com/google/uuid"
	"go.uber.org/zap"
	"golang.org/x/time/rate"

	"polarmirror/internal/console"
	"polarmirror/internal/mirror"
	"polarmirror/internal/recent"
	"polarmirror/internal/store"
)

// PageOptions are what the status page needs. No secret is among them.
type PageOptions struct {
	Store   *store.Store
	Version string // of syncd, for the foot of the page
	Log     *zap.Logger

	Organizations []PageOrganization
	Schedules     mirror.Schedules
	MaxLag        time.Duration // age of the data beyond which it is stale; 0 means never

	// Walk says where the walk of an organization is, if this process walks it: page
	// by page, where the database knows it block by block.
	Walk func(organization string) (at mirror.Position, ok bool)
}

// A PageOrganization is a configured organization.
type PageOrganization struct {
	Name              string
	ID                uuid.UUID         // zero: see [store.Organization]
	Token             [sha256.Size]byte // of the token, whose budget is shared by those that share it
	RequestsPerMinute int               // with that token; 0 means no limit
}

// A Page is the status page: whether the mirror can be trusted, what it did
// lately, and what it holds. It writes nothing and takes no parameter that
// changes anything. It is an [http.Handler] for "GET /".
//
// What a load costs the database: some index look-ups an organization, at most
// once a second however many look. Sums and rankings over the whole mirror are
// made at most twice a minute, and never take more than a tenth of the time: see
// cache.
type Page struct {
	*http.ServeMux
	opts      PageOptions
	templates *template.Template

	ctx    context.Context // of questions to the database, which outlive requests
	cancel context.CancelFunc

	// One connection each is all that the page ever takes of the pool: runs and
	// webhooks need theirs.
	quick, heavy lane

	organizations cache[struct{}, organizations]
	runs          cache[store.RunsQuery, []store.RunRecord]
	customers     cache[store.CustomersQuery, []store.ListedCustomer]
	meters        cache[int, []store.Meter]       // by how many organizations have been mirrored
	rankings      cache[uuid.UUID, store.Ranking] // by meter
	counts        cache[uuid.UUID, int64]         // of customers, by organization
	usage         cache[dayOf, dayUsage]          // of days that may change
	pastUsage     cache[dayOf, dayUsage]          // of the others

	failures rate.Sometimes // every request during an outage has one
}

// patience is how long a page waits for what it can do without.
const patience = 2 * time.Second

// NewPage returns the status page. Close it when it is no longer served.
func NewPage(o PageOptions) *Page {
	p := &Page{
		ServeMux: http.NewServeMux(),
		opts:     o,
		quick:    lane{make(chan struct{}, 1), 5 * time.Second},
		heavy:    lane{make(chan struct{}, 1), 20 * time.Second},
		failures: rate.Sometimes{Interval: time.Minute},
	}
	p.parse()
	p.ctx, p.cancel = context.WithCancel(context.Background())
	fresh := func(d time.Duration) recent.Options { return recent.Options{Keep: d} }
	p.organizations = newCache(p, p.quick, fresh(time.Second), 3*time.Second, p.loadOrganizations)
	p.runs = newCache(p, p.quick, fresh(time.Second), 3*time.Second, (*store.View).Runs)
	p.customers = newCache(p, p.quick, fresh(5*time.Second), time.Minute, (*store.View).Customers)
	p.meters = newCache(p, p.heavy, fresh(30*time.Second), time.Hour, func(v *store.View, ctx context.Context, _ int) ([]store.Meter, error) {
		return v.Meters(ctx)
	})
	p.rankings = newCache(p, p.heavy, fresh(30*time.Second), time.Hour, func(v *store.View, ctx context.Context, meter uuid.UUID) (store.Ranking, error) {
		return v.Ranking(ctx, meter, meterPlaces)
	})
	p.counts = newCache(p, p.heavy, fresh(time.Minute), time.Hour, (*store.View).CountCustomers)
	p.usage = newCache(p, p.heavy, fresh(30*time.Second), time.Hour, countUsage)
	p.pastUsage = newCache(p, p.heavy, recent.Options{Keep: maxDays * day, Size: 50 * maxDays}, time.Hour, countUsage)
	p.HandleFunc("GET /{$}", p.page(p.home))
	p.HandleFunc("GET /organizations/{name}", p.page(p.home))
	p.HandleFunc("GET /live", p.page(p.live))
	p.HandleFunc("GET /meters/{id}", p.page(p.meter))
	p.HandleFunc("GET /customers", p.page(p.customerList))
	p.HandleFunc("GET /customers/{id}", p.page(p.customer))
	p.HandleFunc("GET /runs", p.page(p.runList))
	p.HandleFunc("GET /assets/{file}", asset)
	p.HandleFunc("GET /", p.page(func(*http.Request) (*reply, error) { return nil, errNotFound }))
	return p
}

// Close ends what goes on behind the page.
func (p *Page) Close() { p.cancel() }

// A lane is where questions to the database wait for their turn: one at a time.
type lane struct {
	turn  chan struct{}
	limit time.Duration // of one statement
}

// look calls use with a snapshot of the database when it is its turn.
func look[T any](ctx context.Context, p *Page, in lane, use func(context.Context, *store.View) (T, error)) (value T, err error) {
	select {
	case in.turn <- struct{}{}:
	case <-ctx.Done():
		return value, ctx.Err()
	}
	defer func() { <-in.turn }()
	// Beyond the limit of a statement, for a server that does not answer at all.
	ctx, cancel := context.WithTimeout(ctx, 2*in.limit)
	defer cancel()
	err = p.opts.Store.View(ctx, in.limit, func(v *store.View) error {
		value, err = use(ctx, v)
		return err
	})
	return value, err
}

// A cache keeps what the database answered.
type cache[K comparable, V any] struct {
	*recent.Cache[K, V]
	stale time.Duration // how old an answer may be that is shown while the database is slow or fails
}

// newCache makes a cache of the answers to a question. However often pages
// are loaded and however large the mirror is, a question takes no more than a tenth
// of the database's time.
func newCache[K comparable, V any](p *Page, in lane, opts recent.Options, stale time.Duration, ask func(*store.View, context.Context, K) (V, error)) cache[K, V] {
	opts.Rest = 9
	return cache[K, V]{recent.New(opts, func(_ context.Context, key K) (V, error) {
		return look(p.ctx, p, in, func(ctx context.Context, v *store.View) (V, error) { return ask(v, ctx, key) })
	}), stale}
}

// get waits for an answer until ctx ends, and then makes do with an older one.
func (c cache[K, V]) get(ctx context.Context, key K) (V, error) {
	answer, err := c.Get(ctx, key)
	if time.Since(answer.At) < c.stale {
		err = nil
	}
	return answer.Value, err
}

// errNotFound means that there is no such thing to show.
var errNotFound = errors.New("not found")

// A reply is what a page shows.
type reply struct {
	view  string // the template
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
		ctx, cancel := context.WithTimeout(r.Context(), p.quick.limit)
		defer cancel()
		status := http.StatusOK
		answer, err := show(r.WithContext(ctx))
		if err != nil {
			if r.Context().Err() != nil {
				return // nobody waits for it
			}
			status, answer = p.failure(r, err)
		}
		answer.Version, answer.At = p.opts.Version, time.Now()
		var body bytes.Buffer
		if err := p.templates.ExecuteTemplate(&body, answer.view, answer); err != nil {
			p.opts.Log.Error("page not rendered", zap.String("page", r.URL.Path), zap.Error(err))
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
		if errors.Is(err, context.DeadlineExceeded) {
			body.Headline.Sentence = "The database takes too long to answer."
		}
		p.failures.Do(func() { p.opts.Log.Error("page failed", zap.String("page", r.URL.Path), zap.Error(err)) })
	}
	return status, &reply{view: "failure", Title: body.Headline.Sentence, Body: body}
}

// incomplete says why a part is missing on a page that does without it.
func (p *Page) incomplete(what string, err error) string {
	switch {
	case err == nil:
		return ""
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, context.Canceled):
		return what + " is still being counted. Reload the page in a moment."
	}
	p.opts.Log.Warn("page incomplete", zap.String("missing", what), zap.Error(err))
	return what + " took the database too long. It will be tried again."
}

//go:embed page
var pageFiles embed.FS

// parse reads the templates.
func (p *Page) parse() {
	p.templates = template.Must(template.New("").Funcs(template.FuncMap{
		"about":    func(number string) string { return short(approximate(number), 3) },
		"ago":      func(t time.Time) template.HTML { return timeElement(t, ago(time.Now(), t)) },
		"count":    console.Count,
		"date":     func(t time.Time) template.HTML { return timeElement(t, t.UTC().Format(time.DateTime)) },
		"duration": duration,
		"label":    label,
		"result":   resultOf,
		"number":   grouped,
		"plural":   console.Plural,
		"signed":   signed,
		"utc":      func(t time.Time) string { return t.UTC().Format(time.DateTime) + " UTC" },
	}).ParseFS(pageFiles, "page/*.html"))
}

// asset serves a file that the page refers to.
func asset(w http.ResponseWriter, r *http.Request) {
	http.ServeFileFS(w, r, pageFiles, "page/assets/"+r.PathValue("file"))
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
			Path: here(r, "days", strconv.Itoa(n), part),
			Here: n == days,
		})
	}
	return days, choices
}

// here is the path of r with one parameter changed; "" removes it. part is where on
// the page it leads.
func here(r *http.Request, name, value, part string) string {
	query := r.URL.Query()
	query.Set(name, value)
	if value == "" {
		query.Del(name)
	}
	link := url.URL{Path: r.URL.Path, RawQuery: query.Encode(), Fragment: part}
	return link.String()
}

// pages are the links of a list that is shown page by page; "" where nothing is.
type pages struct{ First, Next string }

// pageLinks returns the links of a page that ends before the n-th of the rows found. Its
// parameter name says from where on: from the row of which value is that.
func pageLinks[T any](r *http.Request, name, part string, found []T, n int, value func(T) string) (p pages) {
	if r.URL.Query().Get(name) != "" {
		p.First = here(r, name, "", part)
	}
	if n < len(found) {
		p.Next = here(r, name, value(found[n-1]), part)
	}
	return p
}
