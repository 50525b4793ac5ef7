package web_test

import (
	"context"
	"io"
	"net/http"
	"regexp"
	"strings"
	"testing"
	"time"

	"go.uber.org/zap"

	"polarmirror/internal/config"
	"polarmirror/internal/metrics"
	"polarmirror/internal/polarsim"
	"polarmirror/internal/store"
	"polarmirror/internal/web"
)

// ask returns a server's answer.
func ask(t testing.TB, url string) (code int, body string) {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return response.StatusCode, string(text)
}

// TestRunDatedLaterThanNowMakesTheDataStale moves the times of runs into the
// future, as a clock leaves them that was ahead and is corrected, and asks
// everything that tells how old the data is.
func TestRunDatedLaterThanNowMakesTheDataStale(t *testing.T) {
	t.Parallel()
	e := newEnv(t, polarsim.Organization{Name: "acme", CustomerMeters: 20})
	for column, undated := range map[string]bool{"started_at": true, "finished_at": false, "slot": false} {
		t.Run(column, func(t *testing.T) {
			e.exec(`DELETE FROM polar.sync_runs`)
			e.backfill()
			organizations := []store.Organization{{Name: "acme", ID: e.orgs[0].ID}}
			outside := func() (code int, health, page, scrape string) {
				m := metrics.New(metrics.Options{Organizations: []string{"acme"}, Log: zap.NewNop()})
				m.WatchDatabase(e.store, organizations)
				server, err := web.Listen(t.Context(), web.Options{HTTP: config.HTTP{Listen: "127.0.0.1:0"}, Observe: m.Served, Log: zap.NewNop()})
				if err != nil {
					t.Fatal(err)
				}
				server.Mount(web.Handlers{
					Page:     http.NotFoundHandler(),
					Webhooks: http.NotFoundHandler(),
					Metrics:  m.Handler(),
					Health:   web.NewHealth(e.store, organizations, time.Hour, zap.NewNop()),
				})
				serving := make(chan error, 1)
				ctx, stop := context.WithCancel(t.Context())
				go func() { serving <- server.Serve(ctx) }()
				defer func() {
					stop()
					if err := <-serving; err != nil {
						t.Error(err)
					}
				}()
				code, health = ask(t, server.URL()+"/healthz/data")
				_, page = ask(t, e.page().URL+"/")
				_, scrape = ask(t, server.URL()+"/metrics")
				return code, health, page, scrape
			}
			e.exec(`UPDATE polar.sync_runs SET slot = started_at`)
			e.exec(`UPDATE polar.sync_runs SET ` + column + ` = ` + column + ` + interval '90 minutes'`)
			code, health, page, scrape := outside()
			if (code == http.StatusServiceUnavailable) != undated || strings.Contains(health, `"age_seconds":null`) != undated || strings.Contains(health, "dated later than now") != undated {
				t.Errorf("health: %d %s", code, health)
			}
			if got := strings.Contains(page, "dated later than now"); got != undated {
				t.Errorf("the page says so: %v", got)
			}
			if got := strings.Contains(scrape, `syncd_data_age_seconds{organization="acme"} +Inf`); got != undated {
				t.Errorf("the age is +Inf: %v", got)
			}
			negative := regexp.MustCompile(`(?m)^syncd_(data_age|last_run_duration|last_success_timestamp)_seconds\S* -|_seconds":-`)
			if found := negative.FindAllString(health+scrape, -1); found != nil {
				t.Errorf("negative: %q", found)
			}
			e.backfill()
			if code, health, _, _ = outside(); code != http.StatusOK {
				t.Errorf("after another run: %d %s", code, health)
			}
		})
	}
}
