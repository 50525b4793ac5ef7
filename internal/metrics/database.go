package metrics

import (
	"context"
	"math"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"

	"polarmirror/internal/recent"
	"polarmirror/internal/store"
)

// A Database is what scrapes ask; a [store.Store] is one.
type Database interface {
	Ready(ctx context.Context) error
	OrgStatus(context.Context, store.OrgStatusQuery) ([]store.OrgStatus, error)
	PoolStat() store.PoolStat
}

const (
	// statusTimeout and statusKeep are of the question how the organizations stand:
	// a few look-ups an organization.
	statusTimeout = 4 * time.Second
	statusKeep    = 2 * time.Second
	// sizesTimeout and sizesKeep are of counting rows, which reads a whole
	// table. A scrape waits sizesPatience at most and then shows the last count.
	sizesTimeout  = 2 * time.Minute
	sizesKeep     = 15 * time.Second
	sizesPatience = 2 * time.Second
	// rest is how many times as long as either took it is not asked again: a
	// twentieth of one connection's time is the most that all scrapes cost.
	rest = 19
)

// WatchDatabase adds what only the database knows. Call it once, with the
// configured organizations.
func (m *Metrics) WatchDatabase(db Database, organizations []store.Organization) {
	m.registry.MustRegister(newDatabaseCollector(db, organizations, m.log))
}

// A databaseCollector asks at a scrape, but seldom more often than needed. While
// the database does not answer, the ages that it told last go on growing.
type databaseCollector struct {
	db     Database
	log    *zap.Logger
	status *recent.Value[[]store.OrgStatus]
	sizes  *recent.Value[[]store.OrgStatus]

	up, age, success, exact, method, took, failing, silent *prometheus.Desc
	live, suspects, rejected                               *prometheus.Desc
	pool                                                   poolDescs
}

func newDatabaseCollector(db Database, organizations []store.Organization, log *zap.Logger) *databaseCollector {
	c := &databaseCollector{db: db, log: log}
	c.status = recent.New(recent.Options{Timeout: statusTimeout, Keep: statusKeep, Rest: rest}, func(ctx context.Context) ([]store.OrgStatus, error) {
		if err := db.Ready(ctx); err != nil {
			return nil, err
		}
		return db.OrgStatus(ctx, store.OrgStatusQuery{Organizations: organizations})
	})
	c.sizes = recent.New(recent.Options{Timeout: sizesTimeout, Keep: sizesKeep, Rest: rest}, func(ctx context.Context) ([]store.OrgStatus, error) {
		return db.OrgStatus(ctx, store.OrgStatusQuery{Organizations: organizations, CountRows: true})
	})
	c.up = desc("database_up", "Whether the database answered and accepts writes: 1 or 0.")
	c.age = desc("data_age_seconds", "Time since the start of the last successful run, the oldest moment that the data may be from; +Inf if no run ever succeeded, or if the last one is dated later than now.", "organization")
	c.success = desc("last_success_timestamp_seconds", "When the last successful run of each kind ended, in Unix time; 0 if there was none or that is unknown.", "organization", "kind")
	c.took = desc("last_run_duration_seconds", "How long the last successful run of each kind took; 0 if there was none or that is unknown.", "organization", "kind")
	c.exact = desc("last_full_run_exact", "Whether the last successful full run proved that it saw every customer meter: 1 or 0.", "organization")
	c.method = desc("last_full_run_method", "How the last successful full run proved that: 1 for its method, walk (overlapping pages) or sweep (rank), else 0.", "organization", "method")
	c.failing = desc("failing", "Whether a run failed and none has made up for it since: 1 or 0.", "organization")
	c.silent = desc("webhooks_silent", "Whether a run found a change that no webhook announced, and none has arrived since: 1 or 0.", "organization")
	c.live = desc("live_rows", "Customer meters that Polar has and the configured filter lets in.", "organization")
	c.suspects = desc("suspect_rows", "Live rows that the full run under way did not find in Polar's list and has not asked for yet.", "organization")
	c.rejected = desc("rejected_rows", "Rows from Polar that could not be mirrored, of the last 30 days.", "organization")
	c.pool = newPoolDescs()
	return c
}

func desc(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc(prometheus.BuildFQName(prefix, "", name), help, labels, nil)
}

// Describe is of [prometheus.Collector].
func (c *databaseCollector) Describe(to chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{c.up, c.age, c.success, c.took, c.exact, c.method, c.failing, c.silent, c.live, c.suspects, c.rejected} {
		to <- d
	}
	c.pool.describe(to)
}

// Collect is of [prometheus.Collector].
func (c *databaseCollector) Collect(to chan<- prometheus.Metric) {
	c.collectStatus(to)
	c.collectSizes(to)
	c.pool.collect(to, c.db.PoolStat())
}

func (c *databaseCollector) collectStatus(to chan<- prometheus.Metric) {
	_, err := c.status.Get(context.Background()) // it ends with its own time-out
	if err != nil {
		c.log.Warn("scrape without the database", zap.Error(err))
	}
	gauge(to, c.up, oneIf(err == nil))
	last, known := c.status.Last()
	if !known {
		return
	}
	for _, s := range last.Value {
		name := s.Organization
		age := math.Inf(1)
		if s.Age != nil {
			age = (*s.Age + time.Since(last.At)).Seconds()
		}
		gauge(to, c.age, age, name)
		c.collectRun(to, name, store.Full, s.LastFull)
		c.collectRun(to, name, store.Incremental, s.LastIncremental)
		gauge(to, c.exact, oneIf(s.FullExact != nil && *s.FullExact), name)
		for _, method := range []store.Method{store.Walk, store.Sweep} {
			gauge(to, c.method, oneIf(s.FullMethod == method), name, string(method))
		}
		gauge(to, c.failing, oneIf(s.Failing()), name)
		gauge(to, c.silent, oneIf(!s.WebhooksSilentSince.IsZero()), name)
	}
}

func (c *databaseCollector) collectRun(to chan<- prometheus.Metric, organization string, kind store.Kind, run store.LastRun) {
	at := 0.0
	if !run.Finished.IsZero() {
		at = float64(run.Finished.UnixMilli()) / 1000
	}
	gauge(to, c.success, at, organization, string(kind))
	gauge(to, c.took, run.Duration().Seconds(), organization, string(kind))
}

func (c *databaseCollector) collectSizes(to chan<- prometheus.Metric) {
	ctx, cancel := context.WithTimeout(context.Background(), sizesPatience)
	defer cancel()
	_, _ = c.sizes.Get(ctx) // a failure leaves the last counts, and database_up tells
	last, known := c.sizes.Last()
	if !known {
		return
	}
	for _, s := range last.Value {
		gauge(to, c.live, float64(s.LiveRows), s.Organization)
		gauge(to, c.suspects, float64(s.Suspects), s.Organization)
		gauge(to, c.rejected, float64(s.RejectedRows), s.Organization)
	}
}

func gauge(to chan<- prometheus.Metric, d *prometheus.Desc, v float64, labels ...string) {
	to <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
}

func oneIf(yes bool) float64 {
	if yes {
		return 1
	}
	return 0
}
