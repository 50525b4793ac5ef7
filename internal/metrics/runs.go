package metrics

import (
	"time"

	"polarmirror/internal/fetch"
	"polarmirror/internal/mirror"
	"polarmirror/internal/store"
)

var (
	_ mirror.Observer = (*Metrics)(nil)
	_ fetch.Observer  = (*Metrics)(nil)
)

func (m *Metrics) addRuns() {
	m.runs = m.counter("runs_total", "Runs that ended, by their kind and how they ended.", "organization", "kind", "outcome")
	// Without the organization: a series for each of its buckets would be many.
	// How long each organization's last run took is last_run_duration_seconds.
	m.runTime = m.histogram("run_duration_seconds", "How long runs took, however they ended.",
		[]float64{0.1, 0.3, 1, 3, 10, 30, 100, 300, 1000, 3000, 10000}, "kind")
	m.rows = m.counter("rows_total", "Customer meters that runs met, by what came of them.", "organization", "change")
	m.skips = m.counter("schedule_skips_total", "Scheduled times that passed without a run of this process, by the reason.", "organization", "reason")
}

// changes are what came of rows, and of how many.
func changes(c store.Counts) map[string]int64 {
	return map[string]int64{
		"inserted":  c.RowsInserted,
		"updated":   c.RowsUpdated,
		"unchanged": c.RowsUnchanged,
		"deleted":   c.RowsDeleted,
		"rejected":  c.RowsRejected,
	}
}

// Counted is of [mirror.Observer].
func (m *Metrics) Counted(organization string, counts store.Counts) {
	for change, n := range changes(counts) {
		// A row that a crash had counted as rejected may turn out not to be; a
		// counter never goes down.
		m.rows.WithLabelValues(organization, change).Add(float64(max(n, 0)))
	}
}

// Ended is of [mirror.Observer].
func (m *Metrics) Ended(organization string, kind store.Kind, end mirror.End, elapsed time.Duration) {
	m.runs.WithLabelValues(organization, string(kind), string(end)).Inc()
	m.runTime.WithLabelValues(string(kind)).Observe(elapsed.Seconds())
}

// Skipped is of [mirror.Observer].
func (m *Metrics) Skipped(organization string, why mirror.Skip) {
	m.skips.WithLabelValues(organization, string(why)).Inc()
}

func (m *Metrics) addRequests() {
	m.requests = m.counter("polar_requests_total", "Requests sent to Polar, by the class of the answer.", "organization", "status")
	m.answers = m.histogram("polar_request_duration_seconds", "How long Polar took until a whole answer was there.",
		[]float64{0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30}).WithLabelValues()
	m.retries = m.counter("polar_retries_total", "Requests sent again after a failure other than 429.", "organization")
	m.waits = m.counter("polar_limiter_wait_seconds_total", "Time that requests stood in line so as to keep to polar.requests_per_minute, or after a 429.", "organization")
}

// Waited is of [fetch.Observer].
func (m *Metrics) Waited(organization string, wait time.Duration) {
	m.waits.WithLabelValues(organization).Add(max(0, wait.Seconds()))
}

// Requested is of [fetch.Observer].
func (m *Metrics) Requested(organization string, answer fetch.Answer, elapsed time.Duration) {
	m.requests.WithLabelValues(organization, string(answer)).Inc()
	if elapsed > 0 {
		m.answers.Observe(elapsed.Seconds())
	}
}

// Retried is of [fetch.Observer].
func (m *Metrics) Retried(organization string) {
	m.retries.WithLabelValues(organization).Inc()
}
