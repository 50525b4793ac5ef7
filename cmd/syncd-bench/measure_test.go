package main

import (
	"io"
	"os"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"polarmirror/internal/pgtest"
)

// madeTables are tables of the names of syncd's, whatever its migrations do.
const madeTables = `
CREATE SCHEMA polar;
CREATE TABLE polar.customers (id int PRIMARY KEY, v text);
CREATE TABLE polar.meters (id int PRIMARY KEY, v text);
CREATE TABLE polar.customer_meters (id int PRIMARY KEY, v text);
CREATE TABLE polar.customer_meter_history (id int, v text) PARTITION BY RANGE (id);
CREATE TABLE polar.history_low PARTITION OF polar.customer_meter_history FOR VALUES FROM (0) TO (100);
CREATE TABLE polar.history_high PARTITION OF polar.customer_meter_history FOR VALUES FROM (100) TO (200);
INSERT INTO polar.customer_meters SELECT i, 'old' FROM generate_series(1, 50) i;
INSERT INTO polar.customer_meter_history SELECT i, 'old' FROM generate_series(90, 110) i`

func TestNewRowVersionsAreThoseWrittenSinceTheMark(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	made := pgtest.New(t)
	d := &database{postgres: &postgres{admin: nil}, name: made.Name, url: made.URL}
	defer d.disconnect(ctx)
	exec := func(sql string) {
		t.Helper()
		if _, err := made.Pool.Exec(ctx, sql); err != nil {
			t.Fatal(err)
		}
	}
	exec(madeTables)
	for _, step := range []struct {
		name, sql string
		want      [4]int64 // customers, meters, customer meters, history
	}{
		{"nothing", `SELECT 1`, [4]int64{}},
		{"inserts", `INSERT INTO polar.customers VALUES (1, 'a'), (2, 'b'); INSERT INTO polar.meters VALUES (1, 'a')`, [4]int64{2, 1, 0, 0}},
		{"updates", `UPDATE polar.customer_meters SET v = 'new' WHERE id <= 7`, [4]int64{0, 0, 7, 0}},
		{"updates that change nothing", `UPDATE polar.customer_meters SET v = v WHERE id <= 5`, [4]int64{0, 0, 5, 0}},
		{"inserts into partitions", `INSERT INTO polar.customer_meter_history VALUES (99, 'new'), (100, 'new'), (101, 'new')`, [4]int64{0, 0, 0, 3}},
		{"what was rolled back", `DO $$ BEGIN INSERT INTO polar.customers VALUES (3, 'c'); RAISE division_by_zero; EXCEPTION WHEN division_by_zero THEN NULL; END $$`, [4]int64{}},
		{"locks", `SELECT FROM polar.customer_meters FOR UPDATE`, [4]int64{}},
		{"reading and vacuuming", `VACUUM (FREEZE, ANALYZE)`, [4]int64{}},
	} {
		m, err := d.mark(ctx)
		if err != nil {
			t.Fatal(err)
		}
		exec(step.sql)
		counts, err := d.newVersions(ctx, m)
		if err != nil {
			t.Fatal(err)
		}
		want := []tableCount{{"customers", step.want[0]}, {"meters", step.want[1]}, {"customer_meters", step.want[2]}, {"customer_meter_history", step.want[3]}}
		byName := cmpopts.SortSlices(func(a, b tableCount) bool { return a.Table < b.Table })
		if diff := cmp.Diff(want, counts, byName); diff != "" {
			t.Errorf("%s (-want +got):\n%s", step.name, diff)
		}
	}
}

func TestLogGrowsByAtLeastWhatIsWritten(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	made := pgtest.New(t)
	d := &database{postgres: &postgres{}, name: made.Name, url: made.URL}
	defer d.disconnect(ctx)
	m, err := d.mark(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := made.Pool.Exec(ctx, `CREATE TABLE t AS SELECT repeat(md5(i::text), 30) FROM generate_series(1, 2000) i`); err != nil {
		t.Fatal(err)
	}
	grown, err := d.since(ctx, m)
	if err != nil {
		t.Fatal(err)
	}
	if grown.wal < 100_000 {
		t.Errorf("%d bytes", grown.wal)
	}
	if grown.ok {
		t.Error("CPU of an unknown server is known")
	}
}

const eaten = 96 << 20 // bytes

// eat takes memory and waits for the end of its standard input. The memory is not
// of Go's heap, of which the race detector keeps copies.
func eat() {
	memory, err := syscall.Mmap(-1, 0, eaten, syscall.PROT_READ|syscall.PROT_WRITE, syscall.MAP_ANON|syscall.MAP_PRIVATE)
	if err != nil {
		os.Exit(1)
	}
	for i := range memory {
		memory[i] = 1
	}
	_, _ = io.Copy(io.Discard, os.Stdin)
}

func TestSummaryTakesMediansAndTheWorst(t *testing.T) {
	t.Parallel()
	taken := func(seconds int, peak, requests, versions int64) sample {
		return sample{
			rows: 1000, wall: time.Duration(seconds) * time.Second, cpu: time.Duration(seconds) * time.Millisecond,
			serverCPU: time.Duration(seconds) * 2 * time.Millisecond, cpuKnown: true, others: float64(seconds) / 10,
			peak: peak, requests: requests, wal: int64(seconds) * 1000,
			versions: []tableCount{{"customers", versions}},
		}
	}
	p := summarize("first", "first load", []sample{taken(5, 10, 12, 0), taken(1, 30, 10, 4), taken(2, 20, 11, 0)})
	want := phase{
		Name: "first", Title: "first load", Runs: 3, Rows: 1000, Seconds: 2, RowsPerSec: 500, ClientCPU: 2, ServerCPU: new(4.0), Others: new(0.2),
		PeakBytes: 30, Requests: 12, WALBytes: 2000, WALPerRow: new(2.0),
		NewVersions: new(int64(4)), VersionsIn: []tableCount{{"customers", 4}},
	}
	if diff := cmp.Diff(want, p, cmpopts.EquateApprox(1e-9, 0)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestCriteriaAreMetOnlyOnTheRightSide(t *testing.T) {
	t.Parallel()
	s := &sizeReport{Rows: 10_000, Phases: []phase{
		{Name: phaseFirst, Title: "first load", RowsPerSec: 40, ClientCPU: 12, PeakBytes: 64 << 20, Requests: 118},
		{Name: baseCopy, RowsPerSec: 100},
		{Name: plainFirst, RowsPerSec: 14},
		{Name: phaseUnchanged, Title: "unchanged", RowsPerSec: 90, ClientCPU: 6.1, Requests: 119, NewVersions: new(int64(1)), WALPerRow: new(1.0)},
		{Name: plainUnchanged, RowsPerSec: 20},
		{Name: phaseTick, Requests: 2},
	}}
	got := map[string]bool{}
	for _, c := range s.criteria() {
		got[c.Name] = c.Met
	}
	want := map[string]bool{
		"first load rate / COPY rate":      true,
		"first load rate / plain script's": false,
		"unchanged rate / plain script's":  true,
		"unchanged: new row versions":      false,
		"unchanged: WAL bytes a row":       false,
		"first load: client CPU µs a row":  true,
		"unchanged: client CPU µs a row":   false,
		"peak memory of syncd, MiB":        false,
		"first load: requests":             true,
		"unchanged: requests":              false,
		"idle tick: requests":              true,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("met (-want +got):\n%s", diff)
	}
}
