package main

import (
	"testing"
	"time"

	"github.com/google/uuid"

	"polarmirror/internal/polarsim"
)

func TestRequestTakesItsShareOfTheLimitOrOfTheStatementsInFlight(t *testing.T) {
	t.Parallel()
	request := func(skipped int64, statements time.Duration) polarsim.Request {
		return polarsim.Request{Cost: polarsim.Cost{Lists: 1, SkippedRows: skipped, Statements: statements}}
	}
	got := costOf([]polarsim.Request{
		request(0, time.Millisecond),
		request(0, 800*time.Millisecond),  // 100 ms
		request(7, 8000*time.Millisecond), // 1 s
	}, 8)
	want := cost{requests: 3, skippedRows: 7, statements: 8801 * time.Millisecond, takes: 2*120*time.Millisecond + time.Second}
	if got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
}

func TestChangeModifiesSoManyRows(t *testing.T) {
	t.Parallel()
	p := newPolar(1500, usualMeters, polarsim.Options{})
	before := map[uuid.UUID]string{}
	for r := range p.All(p.org.ID) {
		before[r.ID] = r.JSON
	}
	if err := p.change(t.Context(), 40); err != nil {
		t.Fatal(err)
	}
	changed := 0
	for r := range p.All(p.org.ID) {
		if r.JSON != before[r.ID] {
			changed++
		}
	}
	if changed != 40 {
		t.Errorf("%d rows have changed, want 40", changed)
	}
}

func TestSimulatedRowsAreOfPolarsKind(t *testing.T) {
	t.Parallel()
	p := newPolar(5000, usualMeters, polarsim.Options{})
	never, size := 0, 0
	for r := range p.All(p.org.ID) {
		size += len(r.JSON)
		if r.ModifiedAt.IsZero() {
			never++
		}
		if limit := time.Now().Add(-23 * time.Hour); r.CreatedAt.After(limit) || r.ModifiedAt.After(limit) {
			t.Errorf("%s moved within the last day", r.ID)
		}
	}
	n := float64(p.rows)
	if share := float64(never) / n; share < 0.57 || share > 0.67 {
		t.Errorf("%.2f of the rows were never modified", share)
	}
	if bytes := float64(size) / n; bytes < 1300 || bytes > 1750 {
		t.Errorf("%.0f bytes a row", bytes)
	}
	if each := n / float64(len(p.Customers(p.org.ID))); each != usualMeters {
		t.Errorf("%.2f customer meters a customer", each)
	}
}
