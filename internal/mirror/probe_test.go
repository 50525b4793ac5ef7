package mirror_test

import (
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"polarmirror/internal/fetch"
	"polarmirror/internal/mirror"
	"polarmirror/internal/polarsim"
	"polarmirror/internal/secret"
)

func TestProbeMeasuresHowSlowDeepPagesAre(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name           string
		rows, requests int
		fault          polarsim.Fault // of the second request
		perRow         time.Duration
	}{
		{"many rows", 20_000, 2, polarsim.NoFault, 21 * time.Microsecond},
		{"few rows", 9_000, 1, polarsim.NoFault, mirror.UsualPerRow},
		{"no answer", 20_000, 2, polarsim.Unavailable, mirror.UsualPerRow},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				const scale = 3 // 21 µs a row
				sim := polarsim.New(polarsim.Options{
					Seed:          7,
					Latency:       150 * time.Millisecond,
					CostScale:     scale,
					Organizations: []polarsim.Organization{{Name: "acme", CustomerMeters: tt.rows}},
				})
				org := sim.Organizations()[0]
				client, err := fetch.New(fetch.Options{
					Organization: org.Name,
					BaseURL:      "https://polar.test",
					Token:        fetch.StaticToken(secret.New(org.Token)),
					Retry:        fetch.Retry{MaxElapsedTime: time.Nanosecond},
					Transport:    sim.Transport(),
				})
				if err != nil {
					t.Fatal(err)
				}
				sim.FailWhen(func(n int, _ *http.Request) polarsim.Fault {
					if n == 2 {
						return tt.fault
					}
					return polarsim.NoFault
				})
				organization := mirror.Organization{Name: org.Name, ID: org.ID, Client: client}
				got, err := organization.Probe(t.Context())
				start := 150*time.Millisecond + scale*(polarsim.ListCost+time.Duration(tt.rows)*polarsim.CountedRowCost)
				if err != nil || got.Rows == 0 || got.Start != start || got.PerRow.Round(time.Microsecond) != tt.perRow {
					t.Errorf("%+v, %v", got, err)
				}
				if got := sim.RequestCount(); got != tt.requests {
					t.Errorf("%d requests, want %d", got, tt.requests)
				}
			})
		})
	}
}
