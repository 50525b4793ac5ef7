package web

import (
	"context"
	"net/http"
	"sync"
	"time"

	"github.com/google/uuid"
	"github.com/robfig/cron/v3"
	"go.uber.org/zap"

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
	Token             int // the same number for those that share a token, and so its budget
	RequestsPerMinute int // with that token; 0 means no limit
}

// A Page is the status page: whether the mirror can be trusted, what it did
// lately, and what it holds. It writes nothing and takes no parameter that
// changes anything. It is an [http.Handler] for "/".
//
// What a load costs the database: some index look-ups an organization, at most
// once a second however many look. Sums and rankings over the whole mirror are
// made at most twice a minute, and never take more than a tenth of the time:
// see shelf.
type Page struct {
	opts   PageOptions
	log    *zap.Logger
	now    func() time.Time
	mux    *http.ServeMux
	views  *views
	work   *work
	cancel context.CancelFunc

	// One connection each is all that the page ever takes of the pool: runs and
	// webhooks need theirs.
	quick, heavy chan struct{}

	orgs      *shelf[struct{}, organizations]
	runs      *shelf[store.RunsWanted, []store.RunRecord]
	meters    *shelf[struct{}, []store.Meter]
	rankings  *shelf[rankingWanted, ranking]
	customers *shelf[store.CustomersWanted, customerList]
	counts    *shelf[uuid.UUID, int64]
	usage     *shelf[uuid.UUID, usage]

	failures complaint // every request during an outage has one

	mu    sync.Mutex
	books map[uuid.UUID]*book
}

const (
	quickLimit = 5 * time.Second  // of one statement that a page waits for
	heavyLimit = 20 * time.Second // of one that it doesn't
	// tolerance is how old the runs' state may be when the database is slow to
	// answer; beyond it the page says that it does not.
	tolerance = 3 * time.Second
)

// NewPage returns the status page. Close it when it is no longer served.
func NewPage(o PageOptions) (*Page, error) {
	views, err := parseViews()
	if err != nil {
		return nil, err
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Log == nil {
		o.Log = zap.NewNop()
	}
	ctx, cancel := context.WithCancel(context.Background())
	p := &Page{
		opts:   o,
		log:    o.Log,
		now:    o.Now,
		views:  views,
		work:   &work{ctx: ctx},
		cancel: cancel,
		quick:  make(chan struct{}, 1),
		heavy:  make(chan struct{}, 1),
		books:  map[uuid.UUID]*book{},
	}
	p.shelves()
	p.mux = p.routes()
	return p, nil
}

// Close ends what goes on behind the page and waits for it.
func (p *Page) Close() {
	p.cancel()
	p.work.running.Wait()
}

func (p *Page) shelves() {
	p.orgs = shelve(p, time.Second, tolerance, quickLimit, p.loadOrganizations)
	p.runs = shelve(p, time.Second, tolerance, quickLimit, p.loadRuns)
	p.meters = shelve(p, 30*time.Second, time.Hour, 2*time.Second, p.loadMeters)
	p.rankings = shelve(p, 30*time.Second, time.Hour, 2*time.Second, p.loadRanking)
	p.usage = shelve(p, 30*time.Second, time.Hour, 2*time.Second, p.fillBook)
	p.counts = shelve(p, time.Minute, time.Hour, 2*time.Second, p.loadCount)
	p.customers = shelve(p, 5*time.Second, time.Minute, quickLimit, p.loadCustomers)
}

func shelve[K comparable, V any](p *Page, fresh, stale, patience time.Duration, load func(context.Context, K) (V, error)) *shelf[K, V] {
	return &shelf[K, V]{fresh: fresh, stale: stale, patience: patience, load: load, work: p.work, now: p.now}
}

// look calls use with a snapshot of the database, in its turn.
func (p *Page) look(ctx context.Context, lane chan struct{}, limit time.Duration, use func(context.Context, *store.View) error) error {
	select {
	case lane <- struct{}{}:
	case <-ctx.Done():
		return ctx.Err()
	}
	defer func() { <-lane }()
	// Beyond the limit of a statement, for a server that does not answer at all.
	ctx, cancel := context.WithTimeout(ctx, 2*limit)
	defer cancel()
	return p.opts.Store.View(ctx, limit, func(v *store.View) error { return use(ctx, v) })
}

// seen is look for one answer.
func seen[T any](ctx context.Context, p *Page, lane chan struct{}, limit time.Duration, use func(context.Context, *store.View) (T, error)) (T, error) {
	var value T
	err := p.look(ctx, lane, limit, func(ctx context.Context, v *store.View) (err error) {
		value, err = use(ctx, v)
		return err
	})
	return value, err
}
