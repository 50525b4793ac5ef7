package main

import (
	"bufio"
	"bytes"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"polarmirror/internal/doctest"
	"polarmirror/internal/pgtest"
)

// mainEnv makes the test binary the program.
const mainEnv = "SYNCD_BENCH_MAIN"

// patience is for what must happen, however slow the machine.
const patience = 3 * time.Minute

func TestMain(m *testing.M) {
	switch {
	case os.Getenv(eatEnv) != "":
		eat()
	case os.Getenv(mainEnv) != "" || os.Getenv(workerEnv) != "":
		main()
	default:
		defer pgtest.Keep()()
		m.Run()
	}
}

// eatEnv makes the test binary a process that takes memory until its standard
// input ends.
const (
	eatEnv = "SYNCD_BENCH_EAT"
	eaten  = 64 << 20 // bytes
)

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

func TestWholeBenchmarkCountsRight(t *testing.T) {
	large(t)
	const rows = 6000 // just above what is walked anyway
	dir := t.TempDir()
	t.Setenv("TMPDIR", dir)
	t.Setenv("GOFLAGS", os.Getenv("GOFLAGS")+" -ldflags=-s") // without symbols syncd is linked in half the time
	b := &bench{sizes: []int{rows}, meters: []int{usualMeters}, stderr: t.Output()}
	if err := b.run(t.Context()); err != nil {
		t.Fatal(err)
	}
	assertEmpty(t, dir)

	type counts struct {
		Name, Method         string
		Updated, NewVersions int64
	}
	customers := int64(rows / usualMeters)
	want := []counts{
		{Name: downloaded},
		{firstLoad, "sweep", 0, 2*rows + customers + usualMeters},
		{Name: copied},
		{unchanged, "sweep", 0, 0},
		{walked, "walk", 0, 0},
		{changed, "sweep", rows / 100, 2 * rows / 100},
		{Name: scriptFirst},
		{Name: scriptAgain},
	}
	var got []counts
	took := map[string]result{}
	for _, r := range b.results {
		got = append(got, counts{r.name, r.method, r.updated, r.newVersions})
		took[r.name] = r
		linux := runtime.GOOS == "linux"
		if r.rows != rows || r.wall <= 0 || r.cpu <= 0 || linux != (r.postgres > 0 || r.name == downloaded) || linux != (r.peak > 1<<20) {
			t.Errorf("%s: something is missing: %+v", r.name, r)
		}
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("counts (-want +got):\n%s", diff)
	}
	for name, most := range map[string]float64{
		firstLoad: 1.40*rows/100 + 30, unchanged: 1.09*rows/100 + 16, changed: 1.09*rows/100 + 16, walked: 1.15*rows/100 + 3,
		downloaded: rows / 100, scriptFirst: rows / 100, scriptAgain: rows / 100, copied: 0,
	} {
		if got := float64(took[name].requests); got > most || got < min(most, rows/100) {
			t.Errorf("%s: %v requests, want %d to %v", name, got, rows/100, most)
		}
	}
	for _, name := range []string{firstLoad, copied, scriptFirst, scriptAgain} {
		if r := took[name]; r.log < 50*rows {
			t.Errorf("%s writes rows, and %d bytes of log", name, r.log)
		}
	}
	for _, name := range []string{unchanged, walked} {
		if r := took[name]; r.log >= rows {
			t.Errorf("%s changes nothing and writes %d bytes of log", name, r.log)
		}
	}
	if s := took[unchanged].skippedRows; s > rows || took[walked].skippedRows < 10*rows || took[scriptAgain].skippedRows <= took[walked].skippedRows {
		t.Errorf("skipped rows: %d by a sweep, %d by a walk, %d by the script", s, took[walked].skippedRows, took[scriptAgain].skippedRows)
	}

	var table bytes.Buffer
	if err := b.print(&table); err != nil {
		t.Fatal(err)
	}
	for _, r := range want {
		if !strings.Contains(table.String(), r.Name) {
			t.Errorf("%s is not in:\n%s", r.Name, table.String())
		}
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
	cmd := exec.CommandContext(t.Context(), must(os.Executable()), "--sizes=1000")
	cmd.Env = append(os.Environ(), mainEnv+"=1", "TMPDIR="+dir)
	stderr, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	kill := time.AfterFunc(patience, func() { _ = cmd.Process.Kill() })
	defer kill.Stop()
	lines := bufio.NewScanner(stderr)
	for lines.Scan() && !strings.Contains(lines.Text(), downloaded) {
	}
	ports, err := filepath.Glob(filepath.Join(dir, "*", "postgres", "port"))
	if err != nil || len(ports) != 1 {
		t.Fatalf("files with Postgres's port: %v, %v", ports, err)
	}
	address := "127.0.0.1:" + strings.TrimSpace(string(must(os.ReadFile(ports[0]))))
	if conn, err := net.Dial("tcp", address); err != nil {
		t.Errorf("before the interrupt: %v", err)
	} else {
		conn.Close()
	}
	if err := cmd.Process.Signal(syscall.SIGINT); err != nil {
		t.Fatal(err)
	}
	rest, err := io.ReadAll(stderr)
	if err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait() // the exit code says it
	if code := cmd.ProcessState.ExitCode(); code != 130 {
		t.Errorf("exit code %d; stderr:\n%s", code, rest)
	}
	assertEmpty(t, dir)
	if conn, err := net.Dial("tcp", address); err == nil {
		conn.Close()
		t.Error("Postgres is left")
	}
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

func TestMistakesOnTheCommandLineAreUsageErrors(t *testing.T) {
	t.Parallel()
	for _, args := range [][]string{{"--sizes", "12"}, {"--sizes", "many"}, {"--sizes", "1000,"}, {"--sizes", ""}, {"--meters", "0"}, {"--wrong"}, {"argument"}} {
		var out, problem bytes.Buffer
		if code := run(t.Context(), args, &out, &problem); code != 2 || strings.Count(problem.String(), "\n") != 1 {
			t.Errorf("%v: exit code %d, %s", args, code, problem.String())
		}
	}
	var out, problem bytes.Buffer
	if code := run(t.Context(), []string{"--help"}, &out, &problem); code != 0 || !strings.Contains(out.String(), "--sizes numbers") {
		t.Errorf("--help: exit code %d:\n%s%s", code, out.String(), problem.String())
	}
}

// TestCommandsInTheDocumentAreUnderstood as far as their flags.
func TestCommandsInTheDocumentAreUnderstood(t *testing.T) {
	t.Parallel()
	found := 0
	for _, block := range doctest.Blocks(t, "../../docs/performance.md") {
		for line := range strings.Lines(block.Text) {
			line, _, _ = strings.Cut(line, " #")
			if args, ok := strings.CutPrefix(line, "go run ./cmd/syncd-bench"); ok {
				found++
				var out, problem bytes.Buffer
				if code := run(t.Context(), append(strings.Fields(args), "--help"), &out, &problem); code != 0 {
					t.Errorf("%s: exit code %d, %s", line, code, problem.String())
				}
			}
		}
	}
	if found < 3 {
		t.Errorf("found only %d", found)
	}
}

func TestFailureOfSyncdIsAnErrorAndNoNumber(t *testing.T) {
	t.Parallel()
	postgres := must(openPostgres(t.Context(), pgtest.New(t).URL))
	defer postgres.admin.conn.Close(t.Context())
	// The first ends badly, the second well without having done anything.
	for _, name := range []string{"false", "true"} {
		b := &bench{postgres: postgres, dir: t.TempDir(), syncd: must(exec.LookPath(name)), stderr: t.Output()}
		if err := b.measure(t.Context(), 1000, usualMeters); err == nil || len(b.results) != 1 || b.results[0].name != downloaded {
			t.Errorf("%s: %v; results: %+v", name, err, b.results)
		}
		const left = `SELECT count(*) FROM pg_database WHERE starts_with(datname, current_database() || '_')`
		var databases int
		if err := postgres.admin.conn.QueryRow(t.Context(), left).Scan(&databases); err != nil || databases != 0 {
			t.Errorf("%s left %d databases; %v", name, databases, err)
		}
	}
}

// large marks a test that takes long and gains nothing from the race detector:
// with -short it is left out.
func large(t *testing.T) {
	t.Helper()
	if testing.Short() {
		t.Skip("large, and -short")
	}
}
