package main

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestVerifyNamesTheTamperedRowAndRepairMendsIt(t *testing.T) {
	t.Parallel()
	f := newFixture(t, 300, 40)
	if r := call(t, nil, "--config", f.config, "--backfill"); r.code != exitDone {
		t.Fatalf("backfill: %+v", r)
	}
	if r := call(t, nil, "--config", f.config, "verify"); r.code != exitDone {
		t.Fatalf("verify after a walk: %+v", r)
	}
	row := f.sim.Listed(f.orgs[0].ID)[123]
	r := call(t, nil, "--config", f.config, "get", row.ID.String())
	assertContains(t, r.stdout, "Mirror and Polar agree.", "customer.email", row.Units.Balance)
	if strings.Contains(r.stdout, "customer.raw") {
		t.Errorf("raw is shown although it is the same:\n%s", r.stdout)
	}
	var tampered string
	const tamper = `UPDATE polar.customer_meters SET balance = balance + 0.1 WHERE id = $1 RETURNING balance::text`
	if err := f.db.Pool.QueryRow(t.Context(), tamper, row.ID).Scan(&tampered); err != nil {
		t.Fatal(err)
	}
	r = call(t, nil, "--config", f.config, "verify")
	if r.code != exitFailed {
		t.Errorf("exit code %d, want %d", r.code, exitFailed)
	}
	assertContains(t, r.stdout, row.ID.String(), "balance", row.Units.Balance)
	assertContains(t, only(t, r.plainLines()), "syncd verify --repair")

	r = call(t, nil, "--config", f.config, "verify", "--json")
	var got []map[string]any
	if err := json.Unmarshal([]byte(r.stdout), &got); err != nil {
		t.Fatal(err)
	}
	want := map[string]any{
		"organization": "acme", "equal": false, "exact": true, "method": "walk", "rows": float64(len(f.sim.Listed(f.orgs[0].ID))),
		"changed_since": 0.0, "rejected": 0.0, "repaired": 0.0, "unread": 0.0,
		"findings": []any{map[string]any{"id": row.ID.String(), "kind": "different", "fields": []any{
			map[string]any{"field": "balance", "polar": row.Units.Balance, "mirror": tampered},
		}}},
	}
	if len(got) != 2 || got[0]["requests"].(float64) == 0 || got[0]["seconds"].(float64) == 0 || got[1]["equal"] != true || !cmp.Equal(got[1]["findings"], []any{}) {
		t.Fatalf("reports %v", got)
	}
	delete(got[0], "requests")
	delete(got[0], "seconds")
	if diff := cmp.Diff(want, got[0]); diff != "" {
		t.Errorf("acme (-want +got):\n%s", diff)
	}

	// What is too long for a table has a line where it is not the same.
	if _, err := f.db.Pool.Exec(t.Context(), `UPDATE polar.customers SET raw = raw || '{"forged": 1}' WHERE id = $1`, row.CustomerID); err != nil {
		t.Fatal(err)
	}
	r = call(t, nil, "--config", f.config, "get", row.ID.String())
	assertContains(t, r.stdout, "differs", row.Units.Balance, "customer.raw", "Fields that differ: 2;")

	gone := f.sim.Listed(f.orgs[0].ID)[1]
	if _, err := f.sim.DeleteCustomerMeter(gone.ID); err != nil {
		t.Fatal(err)
	}
	r = call(t, nil, "--config", f.config, "verify", "--repair")
	if r.code != exitFailed {
		t.Errorf("verify that repaired something: exit code %d, want %d", r.code, exitFailed)
	}
	assertContains(t, r.stdout, gone.ID.String(), "extra", "Extra rows no longer exist at Polar;")
	const repaired = `
SELECT concat_ws(' ', m.balance, c.raw ? 'forged')
  FROM polar.customer_meters m
  JOIN polar.customers c ON c.id = m.customer_id
 WHERE m.id = $1`
	if got, want := f.text(t, repaired, row.ID), row.Units.Balance+" f"; got != want {
		t.Errorf("after the repair its balance, and whether its customer is a forged one: %s, want %s", got, want)
	}

	f.url = "http://127.0.0.1:1"
	unreachable := f.write(t, strings.Replace(f.yaml(nil), "polar: {", "polar: {retry: {retry_connection_errors: false}, ", 1))
	r = call(t, nil, "--config", unreachable, "verify", "--json")
	if r.code != exitFailed || r.stdout != "" || len(r.plainLines()) != 2 {
		t.Errorf("without an answer from Polar: %+v", r)
	}
}

func TestGetTakesOneIDThatPolarCanHave(t *testing.T) {
	t.Parallel()
	for _, args := range [][]string{{"get"}, {"get", "x"}, {"get", "a", "b"}, {"get", "00000000-0000-0000-0000-000000000000"}} {
		if r := call(t, nil, args...); r.code != exitUsage || !strings.Contains(r.stderr, "get takes the id of one customer meter at Polar") {
			t.Errorf("%v: %+v", args, r)
		}
	}
}
