package metrics

import (
	"context"
	"math"
	"strings"
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
	PoolStat() *store.PoolStat
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
	status := recent.Options{Timeout: statusTimeout, Keep: statusKeep, Rest: rest}
	sizes := recent.Options{Timeout: sizesTimeout, Keep: sizesKeep, Rest: rest}
	m.registry.MustRegister(&databaseCollector{
		db:  db,
		log: m.log,
		status: recent.New(status, func(ctx context.Context, _ struct{}) ([]store.OrgStatus, error) {
			if err := db.Ready(ctx); err != nil {
				return nil, err
			}
			return db.OrgStatus(ctx, store.OrgStatusQuery{Organizations: organizations})
		}),
		sizes: recent.New(sizes, func(ctx context.Context, _ struct{}) ([]store.OrgStatus, error) {
			return db.OrgStatus(ctx, store.OrgStatusQuery{Organizations: organizations, CountRows: true})
		}),
	})
}

// A databaseCollector asks at a scrape, but seldom more often than needed. While
// the database does not answer, the ages that it told last go on growing.
type databaseCollector struct {
	db            Database
	log           *zap.Logger
	status, sizes *recent.Cache[struct{}, []store.OrgStatus]
}

// Describe is of [prometheus.Collector]. It describes nothing: what a scrape shows
// depends on the database.
func (c *databaseCollector) Describe(chan<- *prometheus.Desc) {}

// Collect is of [prometheus.Collector].
func (c *databaseCollector) Collect(to chan<- prometheus.Metric) {
	s := scrape{to}
	c.collectStatus(s)
	c.collectSizes(s)
	s.collectPool(c.db.PoolStat())
}

func (c *databaseCollector) collectStatus(to scrape) {
	last, err := c.status.Get(context.Background(), struct{}{}) // it ends with its own time-out
	if err != nil {
		c.log.Warn("scrape without the database", zap.Error(err))
	}
	to.show("database_up", "Whether the database answered and accepts writes: 1 or 0.", oneIf(err == nil), nil)
	for _, s := range last.Value { // none if it never answered
		organization := prometheus.Labels{"organization": s.Organization}
		age := math.Inf(1)
		if s.Age != nil {
			age = (*s.Age + time.Since(last.At)).Seconds()
		}
		to.show("data_age_seconds", "Time since the start of the last successful run, the oldest moment that the data may be from; +Inf if no run ever succeeded, or if the last one is dated later than now.", age, organization)
		for kind, run := range map[store.Kind]store.LastRun{store.Full: s.LastFull, store.Incremental: s.LastIncremental} {
			at := 0.0
			if !run.Finished.IsZero() {
				at = float64(run.Finished.UnixMilli()) / 1000
			}
			to.show("last_success_timestamp_seconds", "When the last successful run of each kind ended, in Unix time; 0 if there was none or that is unknown.", at, prometheus.Labels{"organization": s.Organization, "kind": string(kind)})
			to.show("last_run_duration_seconds", "How long the last successful run of each kind took; 0 if there was none or that is unknown.", run.Duration().Seconds(), prometheus.Labels{"organization": s.Organization, "kind": string(kind)})
		}
		to.show("last_full_run_exact", "Whether the last successful full run proved that it saw every customer meter: 1 or 0.", oneIf(s.FullExact != nil && *s.FullExact), organization)
		for _, method := range []store.Method{store.Walk, store.Sweep} {
			to.show("last_full_run_method", "How the last successful full run proved that: 1 for its method, walk (overlapping pages) or sweep (rank), else 0.", oneIf(s.FullMethod == method), prometheus.Labels{"organization": s.Organization, "method": string(method)})
		}
		to.show("failing", "Whether a run failed and none has made up for it since: 1 or 0.", oneIf(s.Failing()), organization)
		to.show("webhooks_silent", "Whether a run found a change that no webhook announced, and none has arrived since: 1 or 0.", oneIf(!s.WebhooksSilentSince.IsZero()), organization)
	}
}

func (c *databaseCollector) collectSizes(to scrape) {
	ctx, cancel := context.WithTimeout(context.Background(), sizesPatience)
	defer cancel()
	last, _ := c.sizes.Get(ctx, struct{}{}) // a failure leaves the last counts, and database_up tells
	for _, s := range last.Value {
		organization := prometheus.Labels{"organization": s.Organization}
		to.show("live_rows", "Customer meters that Polar has and the configured filter lets in.", float64(s.LiveRows), organization)
		to.show("suspect_rows", "Live rows that the full run under way did not find in Polar's list and has not asked for yet.", float64(s.Suspects), organization)
		to.show("rejected_rows", "Rows from Polar that could not be mirrored, of the last 30 days.", float64(s.RejectedRows), organization)
	}
}

// collectPool tells of the pool of database connections.
func (to scrape) collectPool(s *store.PoolStat) {
	const connections = "Connections to the database, by what they do."
	to.show("database_connections", connections, float64(s.AcquiredConns()), prometheus.Labels{"state": "acquired"})
	to.show("database_connections", connections, float64(s.IdleConns()), prometheus.Labels{"state": "idle"})
	to.show("database_connections", connections, float64(s.ConstructingConns()), prometheus.Labels{"state": "opening"})
	to.show("database_connections_max", "Connections that the pool may hold: database.max_connections.", float64(s.MaxConns()), nil)
	to.show("database_acquires_total", "Connections taken from the pool.", float64(s.AcquireCount()), nil)
	to.show("database_acquire_waits_total", "Connections that had to be waited for, since none was idle.", float64(s.EmptyAcquireCount()), nil)
	to.show("database_acquire_wait_seconds_total", "Time waited for a connection.", s.EmptyAcquireWaitTime().Seconds(), nil)
	to.show("database_acquires_canceled_total", "Waits for a connection that were given up.", float64(s.CanceledAcquireCount()), nil)
}

// A scrape is where metrics go that are made when Prometheus asks.
type scrape struct{ to chan<- prometheus.Metric }

func (to scrape) show(name, help string, v float64, labels prometheus.Labels) {
	kind := prometheus.GaugeValue
	if strings.HasSuffix(name, "_total") {
		kind = prometheus.CounterValue
	}
	desc := prometheus.NewDesc(prometheus.BuildFQName(prefix, "", name), help, nil, labels)
	to.to <- prometheus.MustNewConstMetric(desc, kind, v)
}

func oneIf(yes bool) float64 {
	if yes {
		return 1
	}
	return 0
}
