// Package metrics keeps what syncd counts and shows it to Prometheus.
//
// Its invariants: every name begins with syncd_ and stands in
// docs/operations.md; no label takes a value from outside the program or its
// configuration, so the number of series is bounded by the configured
// organizations; a scrape never waits long for the database, and its share of
// the database's time is bounded.
package metrics

import (
	"net/http"
	"runtime"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promauto"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"go.uber.org/zap"

	"polarmirror/internal/fetch"
	"polarmirror/internal/mirror"
	"polarmirror/internal/store"
)

// prefix begins the name of every metric.
const prefix = "syncd"

// elsewhere stands for a label that is not configured: no organization can be
// called so.
const elsewhere = "(other)"

// Options say what the metrics are about.
type Options struct {
	Version, Commit string        // of this binary
	Organizations   []string      // labels of the configured organizations
	MaxLag          time.Duration // http.max_lag
	Log             *zap.Logger
}

// Metrics are all metrics of one process. Its methods are safe for concurrent
// use; those that count are the observers of the packages named beside them.
type Metrics struct {
	registry *prometheus.Registry
	log      *zap.Logger

	runs     *prometheus.CounterVec
	runTime  *prometheus.HistogramVec
	rows     *prometheus.CounterVec
	skips    *prometheus.CounterVec
	requests *prometheus.CounterVec
	answers  prometheus.Observer
	retries  *prometheus.CounterVec
	waits    *prometheus.CounterVec

	deliveries *prometheus.CounterVec
	processed  *prometheus.CounterVec
	applyTime  prometheus.Observer
	beats      *prometheus.CounterVec
	served     *prometheus.CounterVec
	serveTime  *prometheus.HistogramVec

	known map[string]bool // configured organizations; never changes
}

// New makes the metrics, all at zero.
func New(o Options) *Metrics {
	m := &Metrics{registry: prometheus.NewRegistry(), log: o.Log, known: map[string]bool{}}
	m.addRuns()
	m.addRequests()
	m.addWeb()
	build := m.gauge("build_info", "What this binary was made from; always 1.", "version", "commit", "go_version")
	build.WithLabelValues(o.Version, o.Commit, runtime.Version()).Set(1)
	m.gauge("max_lag_seconds", "The age at which data counts as stale: http.max_lag.").WithLabelValues().Set(o.MaxLag.Seconds())
	own := prometheus.WrapRegistererWithPrefix(prefix+"_", m.registry)
	own.MustRegister(
		collectors.NewGoCollector(collectors.WithGoCollectorMemStatsMetricsDisabled()),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
	)
	for _, name := range o.Organizations {
		m.addOrganization(name)
	}
	return m
}

// addOrganization starts an organization's series at zero, so that its first
// failure is an increase.
func (m *Metrics) addOrganization(name string) {
	m.known[name] = true
	for _, kind := range []store.Kind{store.Full, store.Incremental} {
		for _, end := range mirror.Ends() {
			m.runs.WithLabelValues(name, string(kind), string(end))
		}
	}
	for change := range changes(store.Counts{}) {
		m.rows.WithLabelValues(name, change)
	}
	for _, answer := range fetch.Answers() {
		m.requests.WithLabelValues(name, string(answer))
	}
	for _, outcome := range processingOutcomes() {
		m.processed.WithLabelValues(name, string(outcome))
	}
	m.retries.WithLabelValues(name)
	m.waits.WithLabelValues(name)
}

// scrapesAtOnce bounds the scrapes under way; more are answered with 503.
const scrapesAtOnce = 4

// Handler answers GET /metrics.
func (m *Metrics) Handler() http.Handler {
	return promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{
		ErrorLog:            zap.NewStdLog(m.log),
		ErrorHandling:       promhttp.ContinueOnError,
		MaxRequestsInFlight: scrapesAtOnce,
		EnableOpenMetrics:   true,
	})
}

func (m *Metrics) counter(name, help string, labels ...string) *prometheus.CounterVec {
	return promauto.With(m.registry).NewCounterVec(prometheus.CounterOpts{Namespace: prefix, Name: name, Help: help}, labels)
}

func (m *Metrics) gauge(name, help string, labels ...string) *prometheus.GaugeVec {
	return promauto.With(m.registry).NewGaugeVec(prometheus.GaugeOpts{Namespace: prefix, Name: name, Help: help}, labels)
}

func (m *Metrics) histogram(name, help string, buckets []float64, labels ...string) *prometheus.HistogramVec {
	return promauto.With(m.registry).NewHistogramVec(prometheus.HistogramOpts{Namespace: prefix, Name: name, Help: help, Buckets: buckets}, labels)
}
