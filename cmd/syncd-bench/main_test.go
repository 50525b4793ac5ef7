package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"io"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"polarmirror/internal/pgtest"
)

// eatEnv makes the test binary a process that takes memory until its standard
// input ends.
const eatEnv = "SYNCD_BENCH_EAT"

// patience is for what must happen, however slow the machine.
const patience = 3 * time.Minute

func TestMain(m *testing.M) {
	switch {
	case os.Getenv(eatEnv) != "":
		eat()
	case os.Getenv(roleEnv) != "":
		main()
	default:
		defer pgtest.Keep()()
		m.Run()
	}
}

// everything is a plan of all phases but the one that takes minutes.
func everything(t testing.TB, rows int) *plan {
	t.Helper()
	o := options{
		sizes: []string{"2000"}, phases: []string{phaseFirst, phaseUnchanged, phaseChanged, phaseTick},
		baselines: baselineNames(), runs: 1, pacedRows: 1000,
	}
	p, err := o.plan()
	if err != nil {
		t.Fatal(err)
	}
	p.sizes, p.parent = []int{rows}, t.TempDir()
	return p
}

func TestWholeBenchmarkCountsRight(t *testing.T) {
	t.Parallel()
	large(t)
	const rows = 2000
	p := everything(t, rows)
	var progress bytes.Buffer
	r, err := runBench(t.Context(), p, &progress)
	if err != nil {
		t.Fatalf("%v\n%s", err, progress.String())
	}
	assertEmpty(t, p.parent)

	s := r.Sizes[0]
	customers := s.Phases[1].VersionsIn[0].Rows
	if s.Phases[1].VersionsIn[0].Table != "customers" || customers != rows/usualMeters {
		t.Errorf("customers: %+v", s.Phases[1].VersionsIn)
	}
	type counts struct {
		Rows          int
		Updated       int64
		CustomerMeter int64 // new versions
		History       int64 // likewise
		All           int64 // likewise
	}
	got := map[string]counts{}
	for _, p := range s.Phases {
		c := counts{Rows: p.Rows, Updated: p.Updated}
		if p.NewVersions != nil {
			c.CustomerMeter, c.History, c.All = p.VersionsIn[2].Rows, p.VersionsIn[3].Rows, *p.NewVersions
		}
		got[p.Name] = c
	}
	want := map[string]counts{
		baseDownload:   {Rows: rows},
		phaseFirst:     {rows, 0, rows, rows, 2*rows + usualMeters + customers},
		baseCopy:       {Rows: rows},
		phaseUnchanged: {Rows: rows},
		phaseTick:      {},
		phaseChanged:   {rows, rows / 100, rows / 100, rows / 100, 2 * rows / 100},
		plainFirst:     {Rows: rows},
		plainUnchanged: {Rows: rows},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("counts (-want +got):\n%s", diff)
	}
	assertMeasured(t, s)
	assertPrinted(t, r)
}

// assertMeasured asserts that no number is missing, and those of requests.
func assertMeasured(t testing.TB, s *sizeReport) {
	t.Helper()
	for _, p := range s.Phases {
		walk := p.Name == phaseFirst || p.Name == phaseUnchanged || p.Name == phaseChanged
		least, most := int64(s.Rows/100), int64(s.Rows/100)
		switch {
		case walk:
			most = int64(1.15*float64(s.Rows)/100 + 3)
		case p.Name == phaseTick:
			least, most = 2, 2
		case p.Name == baseCopy:
			least, most = 0, 0
		}
		if p.Requests < least || p.Requests > most {
			t.Errorf("%s: %d requests, want %d to %d", p.Name, p.Requests, least, most)
		}
		if p.PeakBytes < 1<<20 {
			t.Errorf("%s: a peak memory of %d bytes", p.Name, p.PeakBytes)
		}
		if walk && p.RunRowsSec <= p.RowsPerSec {
			t.Errorf("%s: %.0f rows a second of the process, %.0f of the run in it", p.Name, p.RowsPerSec, p.RunRowsSec)
		}
		if p.Name == phaseTick {
			continue
		}
		known := p.ServerCPU != nil && p.Others != nil
		if p.RowsPerSec <= 0 || p.ClientCPU <= 0 || p.WALPerRow == nil || known != (runtime.GOOS == "linux") {
			t.Errorf("%s: something is missing: %+v", p.Name, p)
		}
	}
	for _, name := range []string{phaseFirst, baseCopy, plainFirst, plainUnchanged} {
		if p, ok := s.phase(name); !ok || *p.WALPerRow < 50 {
			t.Errorf("%s writes rows: %+v", name, p)
		}
	}
}

func assertPrinted(t testing.TB, r *report) {
	t.Helper()
	var table, text bytes.Buffer
	if err := r.print(&table); err != nil {
		t.Fatal(err)
	}
	for _, part := range []string{"2,000 customer meters", "first load", "COPY of the same rows", "idle tick", "Targets", "first load rate / COPY rate"} {
		if !strings.Contains(table.String(), part) {
			t.Errorf("%q is not in:\n%s", part, table.String())
		}
	}
	if err := r.printJSON(&text); err != nil {
		t.Fatal(err)
	}
	var decoded struct {
		Sizes    []sizeReport
		Criteria []criterion
	}
	if err := json.Unmarshal(text.Bytes(), &decoded); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(r.criteria(), decoded.Criteria); diff != "" {
		t.Errorf("criteria (-have +JSON):\n%s", diff)
	}
	if diff := cmp.Diff([]sizeReport{*r.Sizes[0]}, decoded.Sizes); diff != "" {
		t.Errorf("sizes (-have +JSON):\n%s", diff)
	}
}

func assertEmpty(t testing.TB, dir string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		t.Errorf("left behind: %s", e.Name())
	}
}

func TestInterruptLeavesNothingBehind(t *testing.T) {
	t.Parallel()
	large(t)
	dir := t.TempDir()
	cmd, err := self(t.Context(), "--sizes=20000")
	if err != nil {
		t.Fatal(err)
	}
	cmd.Env = append(cmd.Env, "TMPDIR="+dir)
	stderr, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(stderr)
	for lines.Scan() && !strings.Contains(lines.Text(), "first load") {
	}
	family := familyOf(cmd.Process.Pid)
	if runtime.GOOS == "linux" && len(family) < 3 { // Polar, Postgres, and one of its processes
		t.Errorf("processes: %v", family)
	}
	if err := cmd.Process.Signal(syscall.SIGINT); err != nil {
		t.Fatal(err)
	}
	kill := time.AfterFunc(patience, func() { _ = cmd.Process.Kill() })
	defer kill.Stop()
	rest, err := io.ReadAll(stderr)
	if err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait() // the exit code says it
	if code := cmd.ProcessState.ExitCode(); code != 130 {
		t.Errorf("exit code %d; stderr:\n%s", code, rest)
	}
	assertEmpty(t, dir)
	for pid, started := range family {
		if st, ok := readStat(pid); ok && st.started == started && !st.zombie {
			t.Errorf("process %d is left", pid)
		}
	}
}

// familyOf returns the processes below one, and when each was started.
func familyOf(pid int) map[int]string {
	all := map[int]string{}
	for _, child := range childrenOf(pid) {
		if st, ok := readStat(child); ok {
			all[child] = st.started
		}
		for pid, started := range familyOf(child) {
			all[pid] = started
		}
	}
	return all
}

func TestMistakesOnTheCommandLineAreUsageErrors(t *testing.T) {
	t.Parallel()
	for _, args := range [][]string{
		{"--sizes", "12"}, {"--sizes", "many"}, {"--phases", "second"}, {"--baselines", "first"},
		{"--only", "nothing"}, {"--runs", "0"}, {"--postgres-setting", "fsync"}, {"--wrong"}, {"argument"},
	} {
		var out, problem bytes.Buffer
		if code := run(t.Context(), args, strings.NewReader(""), &out, &problem); code != 2 || strings.Count(problem.String(), "\n") != 1 {
			t.Errorf("%v: exit code %d, %s", args, code, problem.String())
		}
	}
	var out, problem bytes.Buffer
	if code := run(t.Context(), []string{"--help"}, strings.NewReader(""), &out, &problem); code != 0 || !strings.Contains(out.String(), "--runs N") {
		t.Errorf("--help: exit code %d:\n%s%s", code, out.String(), problem.String())
	}
}

func TestFailureOfSyncdIsAnErrorAndNoNumber(t *testing.T) {
	t.Parallel()
	large(t)
	p := everything(t, 1000)
	var err error
	if p.syncd, err = exec.LookPath("false"); err != nil {
		t.Fatal(err)
	}
	if _, err := runBench(t.Context(), p, io.Discard); err == nil || !strings.Contains(err.Error(), "false") {
		t.Errorf("got %v", err)
	}
	assertEmpty(t, p.parent)
}

// large marks a test that takes long and gains nothing from the race detector:
// with -short it is left out.
func large(t *testing.T) {
	t.Helper()
	if testing.Short() {
		t.Skip("large, and -short")
	}
}
