package metrics

import (
	"strconv"
	"time"

	"polarmirror/internal/store"
)

func (m *Metrics) addWeb() {
	m.served = m.counter("http_requests_total", "Requests answered by syncd, by route and status.", "route", "status")
	m.serveTime = m.histogram("http_request_duration_seconds", "How long syncd took to answer.",
		[]float64{0.001, 0.005, 0.025, 0.1, 0.5, 2.5, 10}, "route")
	m.deliveries = m.counter("webhook_deliveries_total", "Webhook deliveries received, by what was answered.", "organization", "outcome")
	m.processed = m.counter("webhook_events_total", "Attempts to apply kept webhook deliveries, by what they led to.", "organization", "outcome")
	m.applyTime = m.histogram("webhook_delay_seconds", "Time from when Polar sent a webhook delivery until the mirror showed it.",
		[]float64{0.01, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 15, 60, 300}).WithLabelValues()
	m.beats = m.counter("heartbeats_total", "Calls of heartbeat_url, by what came of them.", "outcome")
	for _, outcome := range []string{"sent", "failed"} {
		m.beats.WithLabelValues(outcome)
	}
}

// Served says that a request was answered. The route is a pattern, never a
// path.
func (m *Metrics) Served(route string, status int, elapsed time.Duration) {
	m.served.WithLabelValues(route, strconv.Itoa(status)).Inc()
	m.serveTime.WithLabelValues(route).Observe(elapsed.Seconds())
}

// Beat says whether a heartbeat arrived.
func (m *Metrics) Beat(sent bool) {
	outcome := "failed"
	if sent {
		outcome = "sent"
	}
	m.beats.WithLabelValues(outcome).Inc()
}

// WebhookReceived says what was answered to a webhook delivery: the outcome is one
// of few. An organization that is not configured, which anyone may write into a URL,
// counts as another.
func (m *Metrics) WebhookReceived(organization, outcome string) {
	if !m.known[organization] {
		organization = elsewhere
	}
	m.deliveries.WithLabelValues(organization, outcome).Inc()
}

// processingOutcomes are what an attempt to apply a delivery may lead to.
func processingOutcomes() []store.DeliveryStatus {
	return []store.DeliveryStatus{store.DeliveryApplied, store.DeliveryIgnored, store.DeliveryPending, store.DeliveryFailed}
}

// WebhookProcessed is of [mirror.Observer].
func (m *Metrics) WebhookProcessed(organization string, result store.DeliveryResult, delay time.Duration) {
	m.processed.WithLabelValues(organization, string(result.Status)).Inc()
	if result.Status == store.DeliveryApplied {
		m.applyTime.Observe(max(0, delay.Seconds()))
	}
}
