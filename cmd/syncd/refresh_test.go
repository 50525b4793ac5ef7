package main

import (
	"encoding/json"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"polarmirror/internal/polarsim"
)

func TestRefreshPrintsWhatChangedAndNamesTheUnknown(t *testing.T) {
	t.Parallel()
	f := newFixture(t, 60, 40)
	if r := call(t, nil, "--config", f.config, "--backfill"); r.code != exitDone {
		t.Fatalf("backfill: %+v", r)
	}
	row := f.sim.Listed(f.orgs[1].ID)[3]
	customer := row.CustomerID.String()
	changed, err := f.sim.Consume(row.ID, "3.25")
	if err != nil {
		t.Fatal(err)
	}
	r := call(t, nil, "--config", f.config, "refresh", customer, "nobody")
	if r.code != exitFailed {
		t.Errorf("exit code %d, want %d", r.code, exitFailed)
	}
	assertContains(t, r.stdout, "globex", customer, row.MeterName, "consumed_units", row.Units.Consumed, changed.Units.Consumed)
	assertContains(t, only(t, r.plainLines()), "customer nobody: Polar lists no customer meters for this id (with the configured tokens), and the mirror has none; give the id that it has at Polar or in your own system, not a name or an e-mail address")

	r = call(t, nil, "--config", f.config, "refresh", customer)
	if r.code != exitDone || r.stdout != "globex, customer "+customer+": nothing changed.\n" {
		t.Errorf("refreshed again: %+v", r)
	}
	var runs int
	if err := f.db.Pool.QueryRow(t.Context(), `SELECT count(*) FROM polar.sync_runs WHERE kind = 'refresh' AND status = 'succeeded'`).Scan(&runs); err != nil || runs != 4 {
		t.Errorf("%d runs of kind refresh, want one for each organization asked, 4 (%v)", runs, err)
	}

	// As JSON, whose shape is for scripts.
	customers := f.sim.Customers(f.orgs[0].ID)
	named := customers[slices.IndexFunc(customers, func(c polarsim.Customer) bool { return c.ExternalID != nil && c.Name != nil })]
	if _, err := f.sim.RenameCustomer(named.ID, "Ada"); err != nil {
		t.Fatal(err)
	}
	r = call(t, nil, "--config", f.config, "--organization", "acme", "refresh", "--json", *named.ExternalID, "nobody")
	if r.code != exitFailed {
		t.Errorf("exit code %d, want %d", r.code, exitFailed)
	}
	type change struct {
		ID, Kind string
		MeterID  string `json:"meter_id"`
		Meter    string
		Fields   []map[string]string
	}
	var reports []struct {
		Organization string
		RunID        int64 `json:"run_id"`
		Customers    []struct {
			Asked      string
			CustomerID string `json:"customer_id"`
			Listed     int
			Changes    []change
		}
		Unknown  []string
		Rejected int
	}
	decoder := json.NewDecoder(strings.NewReader(r.stdout))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&reports); err != nil || len(reports) != 1 || len(reports[0].Customers) != 1 {
		t.Fatalf("%v in %s", err, r.stdout)
	}
	report := reports[0]
	if c := report.Customers[0]; report.RunID == 0 || c.Asked != *named.ExternalID || c.CustomerID != named.ID.String() || c.Listed != len(c.Changes) || c.Listed == 0 {
		t.Fatalf("report %+v", report)
	}
	if diff := cmp.Diff([]string{"nobody"}, report.Unknown); diff != "" {
		t.Error(diff)
	}
	want := map[string]string{"field": "customer.name", "old": *named.Name, "new": "Ada"}
	renamed := func(f map[string]string) bool { return maps.Equal(f, want) }
	if c := report.Customers[0].Changes[0]; c.Kind != "changed" || c.Meter == "" || c.MeterID == "" || !slices.ContainsFunc(c.Fields, renamed) {
		t.Errorf("change %+v", c)
	}
	r = call(t, nil, "--config", f.config, "--organization", "acme", "refresh", "--json", customer)
	if r.code != exitFailed {
		t.Errorf("exit code %d for a customer of another organization", r.code)
	}
	for _, part := range []string{`"customers": []`, `"unknown": [`, `"rejected": 0`} {
		assertContains(t, r.stdout, part)
	}
}
