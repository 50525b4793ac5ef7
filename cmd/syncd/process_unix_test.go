//go:build unix

package main

import (
	"bytes"
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// A process is syncd as a process of its own, in a folder of its own.
type process struct {
	cmd            *exec.Cmd
	dir            string
	stdout, stderr buffer
}

// start starts syncd with nothing in its environment but what finds Postgres.
func start(t testing.TB, dir string, args ...string) *process {
	t.Helper()
	return startWith(t, dir, nil, args...)
}

// startWith starts syncd with further variables in its environment.
func startWith(t testing.TB, dir string, env []string, args ...string) *process {
	t.Helper()
	large(t)
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	p := &process{cmd: exec.Command(self, args...), dir: dir}
	p.cmd.Dir = dir
	p.cmd.Env = []string{mainEnv + "=1", "PATH=" + os.Getenv("PATH"), "HOME=" + os.Getenv("HOME")}
	p.cmd.Env = append(p.cmd.Env, env...)
	if cover := os.Getenv("GOCOVERDIR"); cover != "" {
		p.cmd.Env = append(p.cmd.Env, "GOCOVERDIR="+cover)
	}
	p.cmd.Stdout, p.cmd.Stderr = &p.stdout, &p.stderr
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = p.cmd.Process.Kill() })
	return p
}

// end waits for the end of the process and returns what it did.
func (p *process) end(t testing.TB) result {
	t.Helper()
	done := make(chan error, 1)
	go func() { done <- p.cmd.Wait() }()
	select {
	case err := <-done:
		var exit *exec.ExitError
		if err != nil && !errors.As(err, &exit) {
			t.Fatal(err)
		}
	case <-time.After(patience):
		t.Fatalf("syncd %v does not end; stderr:\n%s", p.cmd.Args[1:], p.stderr.String())
	}
	return result{p.cmd.ProcessState.ExitCode(), p.stdout.String(), p.stderr.String()}
}

// demoFolder is where a demo lives; a server left behind by a killed one is
// stopped when the test ends.
func demoFolder(t testing.TB) string {
	t.Helper()
	dir := t.TempDir()
	t.Cleanup(func() {
		if pid := postmaster(t, dir); pid != 0 {
			t.Errorf("Postgres %d is left", pid)
			_ = syscall.Kill(pid, syscall.SIGINT)
		}
	})
	return dir
}

// postmaster is the process of the demo's Postgres, 0 if there is none.
func postmaster(t testing.TB, dir string) int {
	t.Helper()
	raw, err := os.ReadFile(filepath.Join(dir, ".syncd", "demo", "data", "postmaster.pid"))
	if errors.Is(err, os.ErrNotExist) {
		return 0
	}
	if err != nil {
		t.Fatal(err)
	}
	first, _, _ := bytes.Cut(raw, []byte("\n"))
	pid, err := strconv.Atoi(string(first))
	if err != nil {
		t.Fatal(err)
	}
	if errors.Is(syscall.Kill(pid, 0), syscall.ESRCH) {
		return 0
	}
	return pid
}

// TestDemoStartsFromNothingThenWritesWhatChangedAndMayBeSharedStoppedAndKilled in one
// folder.
func TestDemoStartsFromNothingThenWritesWhatChangedAndMayBeSharedStoppedAndKilled(t *testing.T) {
	t.Parallel()
	large(t)
	dir := demoFolder(t)
	first := start(t, dir, "--demo", "--backfill").end(t)
	if first.code != exitDone {
		t.Fatalf("exit code %d, stderr:\n%s", first.code, first.stderr)
	}
	for _, row := range []string{
		`acme +│ ([\d,]+) │ +([\d,]+) │ +\d+ │ .* yes`, `globex +│ +([\d,]+) │ +([\d,]+) │ +\d+ │ .* yes`, `initech +│ +(\d+) │ +(\d+) │ +\d+ │ .* yes`,
	} {
		if found := regexp.MustCompile(row).FindStringSubmatch(first.stdout); found == nil || found[1] != found[2] {
			t.Errorf("no row like %s, all inserted, in:\n%s", row, first.stdout)
		}
	}
	assertContains(t, first.stdout, "FROM polar.burn_rate", "AI tokens", `psql "postgresql://`)
	if tables := strings.Count(first.stdout, "┌"); tables != 1+len(shownQueries("acme")) {
		t.Errorf("a query of the demo found nothing:\n%s", first.stdout)
	}
	stopped := func() {
		t.Helper()
		if pid := postmaster(t, dir); pid != 0 {
			t.Errorf("Postgres %d is left", pid)
		}
	}
	stopped()

	// Held by us, or by somebody else: taken either way.
	if taken, err := net.Listen("tcp", demoConfig().HTTP.Listen); err == nil {
		defer taken.Close()
	}
	p := start(t, dir, smallest()...)
	eventually(t, "the first walk", func() bool { return strings.Contains(p.stderr.String(), `"msg":"run finished"`) })
	assertContains(t, p.stdout.String(), `psql "postgresql://`, "ORDER BY change_seen_at DESC", "Ctrl-C ends it.")
	if postmaster(t, dir) == 0 {
		t.Error("no Postgres runs")
	}
	found := regexp.MustCompile(`(http://127\.0\.0\.1:\d+)/healthz/data`).FindStringSubmatch(p.stdout.String())
	if found == nil || strings.HasSuffix(found[1], ":8080") {
		t.Fatalf("it does not listen elsewhere although the port is taken: %v", found)
	}
	s := &service{TB: t, url: found[1]}
	if code, body := s.get("/healthz/data", ""); code != 200 || !strings.Contains(body, `"organization":"initech"`) {
		t.Errorf("%d %s", code, body)
	}

	// Others may look on, and a second demo is another replica: its Polar has the same
	// data.
	list := readStatusJSON(t, start(t, dir, smallest("status", "--json")...).end(t))
	if len(list) != 1 || list[0]["organization"] != "initech" || list[0]["rows"].(float64) < 60 {
		t.Errorf("status: %v", list)
	}
	if r := start(t, dir, smallest("verify")...).end(t); r.code != exitDone || !regexp.MustCompile(`initech +│ .* equal`).MatchString(r.stdout) {
		t.Errorf("verify: exit code %d, stdout:\n%s\nstderr:\n%s", r.code, r.stdout, r.stderr)
	}
	one := start(t, dir, smallest("--backfill")...).end(t)
	if tables := strings.Count(one.stdout, "┌"); tables != 1+len(shownQueries("initech")) || !strings.Contains(one.stdout, "What initech's customers used") {
		t.Errorf("a query of the demo is not about the organization that it mirrors:\n%s", one.stdout)
	}
	another := start(t, dir, smallest()...)
	eventually(t, "another service", func() bool { return strings.Contains(another.stderr.String(), `"msg":"serving"`) })
	if err := p.cmd.Process.Signal(syscall.SIGINT); err != nil {
		t.Fatal(err)
	}
	if r := p.end(t); r.code != exitDone || len(r.plainLines()) > 0 {
		t.Errorf("exit code %d, stderr:\n%s", r.code, r.stderr)
	}
	if postmaster(t, dir) == 0 {
		t.Error("Postgres ended although another service uses it")
	}

	// Killed, it leaves its Postgres to the next, which ends in order behind a closed pipe.
	if err := another.cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	another.end(t)
	if postmaster(t, dir) == 0 {
		t.Error("its Postgres ended with it")
	}
	cmd := exec.Command(os.Args[0], smallest("status")...)
	cmd.Dir, cmd.Env = dir, append(os.Environ(), mainEnv+"=1")
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if err := out.Close(); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err == nil || cmd.ProcessState.ExitCode() != exitFailed {
		t.Errorf("ended with %v, want exit code %d", err, exitFailed)
	}
	stopped()
}

// smallest limits a demo to its smallest organization, where the claim needs no size.
func smallest(args ...string) []string {
	return append(args, "--demo", "--no-progress", "--organization", "initech")
}

func TestSecondSignalAborts(t *testing.T) {
	t.Parallel()
	f := newFixture(t, 30)
	blocked := make(chan struct{})
	arrived := make(chan struct{}, 100)
	f.sim.Before(func(int, *http.Request) {
		arrived <- struct{}{}
		<-blocked
	})
	t.Cleanup(func() { close(blocked) })
	p := start(t, t.TempDir(), "--backfill", "--config", f.config)
	<-arrived
	// Keeps the run's last words from being written, so that it does not end.
	tx, err := f.db.Pool.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer tx.Rollback(t.Context())
	if _, err := tx.Exec(t.Context(), `LOCK TABLE polar.sync_runs`); err != nil {
		t.Fatal(err)
	}
	if err := p.cmd.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the first signal", func() bool { return strings.Contains(p.stderr.String(), `"msg":"stopping"`) })
	time.Sleep(oneSignal + oneSignal/10) // what comes sooner belongs to the first
	if err := p.cmd.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	r := p.end(t)
	if r.code != exitFailed || len(r.plainLines()) > 0 {
		t.Errorf("exit code %d, stderr:\n%s", r.code, r.stderr)
	}
}

func TestCheckNamesTheProxyThatIsInTheWay(t *testing.T) {
	t.Parallel()
	answers := func(status int) string {
		proxy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(status) }))
		t.Cleanup(proxy.Close)
		return proxy.Listener.Addr().String()
	}
	forbids, busy := answers(http.StatusForbidden), answers(http.StatusServiceUnavailable)
	for _, tt := range []struct {
		proxy string
		code  int
		says  string
	}{
		{"@" + forbids, exitUsage, "✗ organization default: list customer meters, page 1: GET https://api.polar.sh/v1/customer-meters/: proxy " + forbids + " (HTTPS_PROXY) refused access to api.polar.sh:443: status 403 Forbidden"},
		{"@" + busy, exitFailed, "✗ organization default: Polar gave no usable answer: "},
		{"@127.0.0.1:1", exitFailed, "through proxy 127.0.0.1:1 (HTTPS_PROXY): "},
	} {
		env := []string{
			"POLAR_ACCESS_TOKEN=polar_oat_" + canary, "POLAR_ORGANIZATION_ID=1dbfc517-0bbf-4301-9ba8-555ca42b9737",
			"HTTPS_PROXY=http://operator:" + canary + tt.proxy,
		}
		r := startWith(t, t.TempDir(), env, "config", "check").end(t)
		if r.code != tt.code || !strings.Contains(r.stdout, tt.says) || strings.Contains(r.stdout+r.stderr, canary) {
			t.Errorf("proxy %s: exit code %d, stdout:\n%s\nstderr:\n%s", tt.proxy, r.code, r.stdout, r.stderr)
		}
	}
}
