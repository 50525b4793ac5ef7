package main

import (
	"encoding/json"
	"strings"
	"testing"

	"polarmirror/internal/store"
)

func TestVerifyNamesTheTamperedRowAndRepairMendsIt(t *testing.T) {
	t.Parallel()
	large(t)
	f := newFixture(t, 300, 40)
	if r := call(t, nil, "--config", f.config, "--backfill"); r.code != exitDone {
		t.Fatalf("backfill: %+v", r)
	}
	if r := call(t, nil, "--config", f.config, "verify"); r.code != exitDone {
		t.Fatalf("verify after a walk: %+v", r)
	}
	row := f.sim.Listed(f.orgs[0].ID)[123]
	if _, err := f.db.Pool.Exec(t.Context(), `UPDATE polar.customer_meters SET balance = balance + 0.1 WHERE id = $1`, row.ID); err != nil {
		t.Fatal(err)
	}
	r := call(t, nil, "--config", f.config, "verify")
	if r.code != exitFailed {
		t.Errorf("exit code %d, want %d", r.code, exitFailed)
	}
	assertContains(t, r.stdout, row.ID.String(), "balance", row.Units.Balance)
	assertContains(t, only(t, r.plainLines()), "syncd verify --repair")

	r = call(t, nil, "--config", f.config, "verify", "--json")
	var reports []verifyReport
	if err := json.Unmarshal([]byte(r.stdout), &reports); err != nil {
		t.Fatal(err)
	}
	if len(reports) != 2 || *reports[0].Method != store.Walk || reports[0].Equal || !reports[1].Equal || len(reports[0].Findings) != 1 {
		t.Errorf("reports %+v", reports)
	}

	r = call(t, nil, "--config", f.config, "get", row.ID.String())
	assertContains(t, r.stdout, "differs", row.Units.Balance, "Fields that differ: 1;")

	if r := call(t, nil, "--config", f.config, "verify", "--repair"); r.code != exitFailed {
		t.Errorf("verify that mended something: exit code %d, want %d", r.code, exitFailed)
	}
	if r := call(t, nil, "--config", f.config, "verify"); r.code != exitDone {
		t.Errorf("verify after the repair: %+v", r)
	}
	r = call(t, nil, "--config", f.config, "get", row.ID.String())
	assertContains(t, r.stdout, "Mirror and Polar agree.")
}

// TestGetShowsWhatDiffersInFieldsItElseLeavesOut: what is too long for a column, or
// seldom of interest, has a line when it is not the same.
func TestGetShowsWhatDiffersInFieldsItElseLeavesOut(t *testing.T) {
	t.Parallel()
	f := newFixture(t, 5)
	if r := call(t, nil, "--config", f.config, "--backfill"); r.code != exitDone {
		t.Fatalf("backfill: %+v", r)
	}
	list := f.sim.Listed(f.orgs[0].ID)
	row, gone := list[0], list[1]
	r := call(t, nil, "--config", f.config, "get", row.ID.String())
	assertContains(t, r.stdout, "Mirror and Polar agree.")
	if strings.Contains(r.stdout, "customer.raw") {
		t.Errorf("raw is shown although it is the same:\n%s", r.stdout)
	}
	if _, err := f.db.Pool.Exec(t.Context(), `UPDATE polar.customers SET raw = raw || '{"forged": 1}' WHERE id = $1`, row.CustomerID); err != nil {
		t.Fatal(err)
	}
	r = call(t, nil, "--config", f.config, "get", row.ID.String())
	assertContains(t, r.stdout, "customer.raw", "Fields that differ: 1;")

	if _, err := f.sim.DeleteCustomerMeter(gone.ID); err != nil {
		t.Fatal(err)
	}
	r = call(t, nil, "--config", f.config, "verify")
	assertContains(t, r.stdout, gone.ID.String(), "extra", "Extra rows are gone from Polar;")
}

func TestGetWantsOneID(t *testing.T) {
	t.Parallel()
	for _, args := range [][]string{{"get"}, {"get", "x"}, {"get", "a", "b"}} {
		if r := call(t, nil, args...); r.code != exitUsage {
			t.Errorf("%v: %+v", args, r)
		}
	}
}
