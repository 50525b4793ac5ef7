package main

import (
	"fmt"
	"io"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"polarmirror/internal/polarsim"
)

func TestLoopCostsWhatTheSimulationChargesForIt(t *testing.T) {
	t.Parallel()
	const rows = 1230
	h := &costHandler{sim: simulated(rows, usualMeters, polarsim.Options{})}
	token := h.sim.Organizations()[0].Token
	for page := range (rows + pageSize - 1) / pageSize {
		if a := ask(t, h, token, "", fmt.Sprintf("%s?page=%d&limit=%d", listPath, page+1, pageSize)); a.Status != 200 {
			t.Fatalf("page %d: %d %s", page+1, a.Status, a.Body)
		}
	}
	want := cost{Requests: 13, SkippedRows: 7800, Statements: 13*(polarsim.ListCost+rows*polarsim.CountedRowCost) + 7800*polarsim.SkippedRowCost, Takes: 13 * 120 * time.Millisecond}
	if diff := cmp.Diff(want, h.take()); diff != "" {
		t.Errorf("served (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(want, sdkLoop(rows)); diff != "" {
		t.Errorf("computed (-want +got):\n%s", diff)
	}
	if left := h.take(); left != (cost{}) {
		t.Errorf("costs taken before are still there: %+v", left)
	}
}

func TestRequestTakesItsShareOfTheLimitOrOfTheStatementsInFlight(t *testing.T) {
	t.Parallel()
	var c cost
	c.add(0, time.Millisecond, 8)
	c.add(0, 800*time.Millisecond, 8)  // 100 ms
	c.add(0, 8000*time.Millisecond, 8) // 1 s
	if want := 2*120*time.Millisecond + time.Second; c.Takes != want {
		t.Errorf("requests take %v, want %v", c.Takes, want)
	}
	if want := 3*120*time.Millisecond + 8801*time.Millisecond; c.inTurn() != want {
		t.Errorf("they take at most %v, want %v", c.inTurn(), want)
	}
}

func TestCostsAreOfSweepsAndOfAWalk(t *testing.T) {
	t.Parallel()
	large(t)
	const rows = 6000 // just above what is walked anyway
	p := everything(t, rows)
	p.wanted = map[string]bool{phaseCost: true}
	r, err := runBench(t.Context(), p, io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	skipped := map[string]int64{}
	for _, read := range r.Costs[0].Reads {
		names = append(names, read.Name)
		skipped[read.Name] = read.Cost.SkippedRows
	}
	if diff := cmp.Diff([]string{readFirst, readFull, readWalk, readSDK}, names); diff != "" {
		t.Fatalf("ways of reading (-want +got):\n%s", diff)
	}
	if skipped[readFull] > rows || skipped[readWalk] < 10*rows || skipped[readSDK] <= skipped[readWalk] {
		t.Errorf("skipped rows: %v", skipped)
	}
	for _, c := range r.criteria() {
		if !c.Met {
			t.Errorf("%s: %v, want at most %v", c.Name, c.Value, c.Target)
		}
	}
	if diff := cmp.Diff([]string{"sweep", "sweep", "walk", ""}, methods(r.Costs[0])); diff != "" {
		t.Errorf("methods (-want +got):\n%s", diff)
	}
	if r.empty() {
		t.Error("a report of costs is empty")
	}
}

func methods(r *costReport) (all []string) {
	for _, read := range r.Reads {
		all = append(all, read.Method)
	}
	return all
}
