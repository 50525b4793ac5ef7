package metrics

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"
	dto "github.com/prometheus/client_model/go"
	"go.uber.org/zap"

	"polarmirror/internal/fetch"
	"polarmirror/internal/mirror"
	"polarmirror/internal/pgtest"
	"polarmirror/internal/store"
)

func TestMain(m *testing.M) {
	defer pgtest.Keep()()
	m.Run()
}

// touched are metrics of which each has a value.
func touched(t testing.TB) *Metrics {
	t.Helper()
	m := New(Options{Version: "v1", Commit: "abc", Organizations: []string{"acme"}, MaxLag: time.Hour, Log: zap.NewNop()})
	age := time.Minute
	m.WatchDatabase(&fake{status: []store.OrgStatus{{Organization: "acme", Age: &age}}}, nil)
	m.Ended("acme", store.Full, mirror.Succeeded, time.Second)
	m.Skipped("acme", mirror.SkipBusy)
	m.Requested("acme", fetch.Answered, time.Second)
	m.Served("GET /", 200, time.Millisecond)
	m.WebhookReceived("acme", "accepted")
	m.WebhookProcessed("acme", store.DeliveryResult{Status: store.DeliveryApplied}, time.Second)
	return m
}

func gather(t testing.TB, m *Metrics) map[string]*dto.MetricFamily {
	t.Helper()
	families, err := m.registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	byName := map[string]*dto.MetricFamily{}
	for _, f := range families {
		if !strings.HasPrefix(f.GetName(), "syncd_") {
			t.Errorf("%s does not begin with syncd_", f.GetName())
		}
		byName[f.GetName()] = f
	}
	return byName
}

// expect compares one series.
func expect(t testing.TB, m *Metrics, name string, labels map[string]string, want float64) {
	t.Helper()
	if labels == nil {
		labels = map[string]string{}
	}
	got, ok := labelled(gather(t, m)[name], labels)
	if !ok || got != want {
		t.Errorf("%s%v is %v (there: %v), want %v", name, labels, got, ok, want)
	}
}

func TestMetricsPassTheLinter(t *testing.T) {
	t.Parallel()
	problems, err := testutil.GatherAndLint(touched(t).registry)
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range problems {
		t.Errorf("%s: %s", p.Metric, p.Text)
	}
}

func TestRunsAndRequestsAreCounted(t *testing.T) {
	t.Parallel()
	m := New(Options{Organizations: []string{"acme", "globex"}, Log: zap.NewNop()})
	m.Counted("acme", store.Counts{RowsInserted: 3, RowsUnchanged: 4, Requests: 9})
	m.Counted("acme", store.Counts{RowsInserted: 2, RowsRejected: -1})
	m.Ended("acme", store.Full, mirror.Failed, 90*time.Second)
	m.Ended("globex", store.Repair, mirror.Succeeded, time.Second)
	m.Skipped("acme", mirror.SkipTooSoon)
	m.Requested("acme", fetch.TooMany, 0)
	m.Requested("acme", fetch.Answered, time.Second)
	m.Waited("acme", 1500*time.Millisecond)
	m.Retried("globex")
	m.Beat(true)
	m.Beat(false)
	m.Served("GET /x/{id}", 404, time.Millisecond)
	type labels = map[string]string
	expect(t, m, "syncd_rows_total", labels{"organization": "acme", "change": "inserted"}, 5)
	expect(t, m, "syncd_rows_total", labels{"organization": "acme", "change": "unchanged"}, 4)
	expect(t, m, "syncd_rows_total", labels{"organization": "globex", "change": "deleted"}, 0)
	expect(t, m, "syncd_rows_total", labels{"organization": "acme", "change": "rejected"}, 0)
	expect(t, m, "syncd_runs_total", labels{"organization": "acme", "kind": "full", "outcome": "failed"}, 1)
	expect(t, m, "syncd_runs_total", labels{"organization": "globex", "kind": "full", "outcome": "failed"}, 0)
	expect(t, m, "syncd_runs_total", labels{"organization": "globex", "kind": "repair", "outcome": "succeeded"}, 1)
	expect(t, m, "syncd_run_duration_seconds", labels{"kind": "full"}, 1)
	expect(t, m, "syncd_schedule_skips_total", labels{"organization": "acme", "reason": "too_soon"}, 1)
	expect(t, m, "syncd_polar_requests_total", labels{"organization": "acme", "status": "429"}, 1)
	expect(t, m, "syncd_polar_requests_total", labels{"organization": "globex", "status": "5xx"}, 0)
	expect(t, m, "syncd_polar_request_duration_seconds", nil, 1)
	expect(t, m, "syncd_polar_limiter_wait_seconds_total", labels{"organization": "acme"}, 1.5)
	expect(t, m, "syncd_polar_retries_total", labels{"organization": "globex"}, 1)
	expect(t, m, "syncd_webhook_events_total", labels{"organization": "globex", "outcome": "failed"}, 0)
	expect(t, m, "syncd_heartbeats_total", labels{"outcome": "sent"}, 1)
	expect(t, m, "syncd_heartbeats_total", labels{"outcome": "failed"}, 1)
	expect(t, m, "syncd_http_requests_total", labels{"route": "GET /x/{id}", "status": "404"}, 1)
}

func TestStrangersCannotMakeSeries(t *testing.T) {
	t.Parallel()
	m := New(Options{Organizations: []string{"acme"}, Log: zap.NewNop()})
	for i := range 1000 {
		m.WebhookReceived(fmt.Sprint("forged", i), "forged")
		m.WebhookReceived("acme", "forged")
	}
	expect(t, m, "syncd_webhook_deliveries_total", map[string]string{"organization": "(other)", "outcome": "forged"}, 1000)
	expect(t, m, "syncd_webhook_deliveries_total", map[string]string{"organization": "acme", "outcome": "forged"}, 1000)
	if n := len(gather(t, m)["syncd_webhook_deliveries_total"].Metric); n != 2 {
		t.Errorf("%d series", n)
	}
}

func TestHandlerAnswersPrometheus(t *testing.T) {
	t.Parallel()
	s := httptest.NewServer(touched(t).Handler())
	t.Cleanup(s.Close)
	for accept, want := range map[string]string{
		"": "text/plain; version=0.0.4", "application/openmetrics-text;version=1.0.0": "application/openmetrics-text; version=1.0.0",
	} {
		request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, s.URL, http.NoBody)
		if err != nil {
			t.Fatal(err)
		}
		request.Header.Set("Accept", accept)
		response, err := http.DefaultClient.Do(request)
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(response.Body)
		_ = response.Body.Close()
		if err != nil || response.StatusCode != 200 || !strings.HasPrefix(response.Header.Get("Content-Type"), want) ||
			!strings.Contains(string(body), `syncd_build_info{commit="abc",go_version="`+runtime.Version()+`",version="v1"} 1`) {
			t.Errorf("Accept %q: %d %s, %v\n%.300s", accept, response.StatusCode, response.Header.Get("Content-Type"), err, body)
		}
	}
}
