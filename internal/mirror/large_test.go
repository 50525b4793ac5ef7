package mirror

import (
	"testing"
	"time"

	"polarmirror/internal/polarsim"
)

// large leaves a test of many rows or mirrors, or of what is not about concurrency,
// out of the runs that are -short: those under the race detector, where it would take
// minutes, and on other versions of Postgres, whose full suites .ci/long runs.
func large(t *testing.T) {
	t.Helper()
	if testing.Short() {
		t.Skip("large, and -short")
	}
}

// rows is n, or a quarter of it with -short.
func rows(n int) int {
	if testing.Short() {
		return n / 4
	}
	return n
}

// TestThousandsOfRowsCostFewRequests is about what a large organization
// costs: idle ticks with the border between rows that never changed and rows
// that did on the edge of a page, a tick with news, and a walk at rest.
func TestThousandsOfRowsCostFewRequests(t *testing.T) {
	t.Parallel()
	large(t)
	const rows, never = 5_000, 3_000
	offset := -24 * time.Hour
	w := newEnv(t, polarsim.Options{
		Seed: 13, Epoch: time.Now().UTC().Add(-24 * time.Hour),
		Now:           func() time.Time { return time.Now().Add(offset) },
		Organizations: []polarsim.Organization{{Name: "acme", CustomerMeters: rows, NeverModified: 0.601}},
	})
	org := w.orgs[0].ID
	nulls := 0
	for row := range w.sim.All(org) {
		if row.ModifiedAt.IsZero() && !row.Archived {
			nulls++
		}
	}
	listed := w.sim.Listed(org)
	for _, row := range listed {
		if nulls > never && row.ModifiedAt.IsZero() {
			must1(w.sim.Consume(row.ID, "1"))
			nulls--
		}
	}
	if nulls != never {
		t.Fatalf("%d rows have no modified_at, want %d", nulls, never)
	}
	offset = 0
	w.backfill()
	w.same()

	before := w.value(dataVersions)
	idle := func() {
		t.Helper()
		w.sim.ForgetRequests()
		if err := w.tick(); err != nil {
			t.Fatal(err)
		}
		if got := w.sim.RequestCount(); got != 2 {
			t.Errorf("an idle tick cost %d requests, want 2", got)
		}
	}
	idle()
	idle()
	w.sim.ForgetRequests()
	w.backfill()
	if got, most := w.sim.RequestCount(), len(listed)*115/10000+3; got > most {
		t.Errorf("a walk at rest cost %d requests, want at most %d", got, most)
	}
	if w.value(dataVersions) != before {
		t.Error("ticks and a walk at rest wrote row versions")
	}

	for i := range 250 {
		must1(w.sim.Consume(listed[i*17].ID, "0.1"))
	}
	for range 50 {
		must1(w.sim.AddCustomerMeter(org, polarsim.NewCustomerMeter{}))
	}
	w.sim.ForgetRequests()
	if err := w.tick(); err != nil {
		t.Fatal(err)
	}
	if got := w.sim.RequestCount(); got > 8 {
		t.Errorf("a tick with 250 changed and 50 added rows cost %d requests, want at most 8", got)
	}
	w.same()
}
