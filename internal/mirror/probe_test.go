package mirror_test

import (
	"testing"
	"testing/synctest"
	"time"

	"polarmirror/internal/fetch"
	"polarmirror/internal/mirror"
	"polarmirror/internal/polarsim"
	"polarmirror/internal/secret"
)

func TestProbeTakesOneRequestHoweverManyRowsThereAre(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		const rows = 20_000
		sim := polarsim.New(polarsim.Options{
			Seed:          7,
			Latency:       150 * time.Millisecond,
			CostScale:     1,
			Organizations: []polarsim.Organization{{Name: "acme", CustomerMeters: rows}},
		})
		org := sim.Organizations()[0]
		client, err := fetch.New(fetch.Options{
			Organization: org.Name,
			BaseURL:      "https://polar.test",
			Token:        fetch.StaticToken(secret.New(org.Token)),
			Transport:    sim.Transport(),
		})
		if err != nil {
			t.Fatal(err)
		}
		organization := mirror.Organization{Name: org.Name, ID: org.ID, Client: client}
		got, err := organization.Probe(t.Context())
		want := mirror.Probe{Rows: len(sim.Listed(org.ID)), Start: 150*time.Millisecond + polarsim.ListCost + rows*polarsim.CountedRowCost}
		if err != nil || got != want || sim.RequestCount() != 1 {
			t.Errorf("%+v, %v in %d requests, want %+v", got, err, sim.RequestCount(), want)
		}
	})
}
