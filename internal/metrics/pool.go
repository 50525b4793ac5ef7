package metrics

import (
	"github.com/prometheus/client_golang/prometheus"

	"polarmirror/internal/store"
)

// poolDescs are the metrics of the pool of database connections.
type poolDescs struct {
	connections, most, acquires, waits, waited, canceled *prometheus.Desc
}

func newPoolDescs() poolDescs {
	return poolDescs{
		connections: desc("database_connections", "Connections to the database, by what they do.", "state"),
		most:        desc("database_connections_max", "Connections that the pool may hold: database.max_connections."),
		acquires:    desc("database_acquires_total", "Connections taken from the pool."),
		waits:       desc("database_acquire_waits_total", "Connections that had to be waited for, since none was idle."),
		waited:      desc("database_acquire_wait_seconds_total", "Time waited for a connection."),
		canceled:    desc("database_acquires_canceled_total", "Waits for a connection that were given up."),
	}
}

func (p poolDescs) describe(to chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{p.connections, p.most, p.acquires, p.waits, p.waited, p.canceled} {
		to <- d
	}
}

func (p poolDescs) collect(to chan<- prometheus.Metric, s store.PoolStat) {
	gauge(to, p.connections, float64(s.Acquired), "acquired")
	gauge(to, p.connections, float64(s.Idle), "idle")
	gauge(to, p.connections, float64(s.Opening), "opening")
	gauge(to, p.most, float64(s.Most))
	count(to, p.acquires, float64(s.Acquires))
	count(to, p.waits, float64(s.Waits))
	count(to, p.waited, s.Waited.Seconds())
	count(to, p.canceled, float64(s.Canceled))
}

func count(to chan<- prometheus.Metric, d *prometheus.Desc, v float64) {
	to <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, v)
}
