package main

import (
	"context"
	"io"
	"net"
	"net/http"
	"regexp"
	"strings"
	"sync"
	"testing"

	"polarmirror/internal/pgtest"
)

// A service is syncd in this process, serving.
type service struct {
	testing.TB
	url            string // of http.listen
	stdout, stderr *buffer
	stop           func() result
}

// serve starts the service and waits until it listens.
func serve(t testing.TB, args ...string) *service {
	t.Helper()
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	s := &service{TB: t, stdout: &buffer{}, stderr: &buffer{}}
	done := make(chan int, 1)
	go func() { done <- run(ctx, args, variables(nil).lookup, s.stdout, s.stderr) }()
	s.stop = sync.OnceValue(func() result {
		cancel()
		return result{<-done, s.stdout.String(), s.stderr.String()}
	})
	t.Cleanup(func() {
		if r := s.stop(); strings.Contains(r.stdout+r.stderr, canary) {
			t.Errorf("syncd %v shows a secret:\n%s%s", args, r.stdout, r.stderr)
		}
	})
	s.url = s.logged("listening")
	return s
}

// logged waits for a line of the log and returns its url.
func (s *service) logged(message string) string {
	s.Helper()
	line := regexp.MustCompile(`"msg":"` + message + `","url":"([^"]+)"`)
	var url string
	eventually(s, message, func() bool {
		found := line.FindStringSubmatch(s.stderr.String())
		if found == nil {
			return false
		}
		url = strings.TrimSuffix(found[1], "/")
		return true
	})
	return url
}

// get asks the service, with an Authorization header unless it is "".
func (s *service) get(path, authorization string) (int, string) {
	s.Helper()
	request, err := http.NewRequestWithContext(context.WithoutCancel(s.Context()), http.MethodGet, s.url+path, http.NoBody)
	if err != nil {
		s.Fatal(err)
	}
	if authorization != "" {
		request.Header.Set("Authorization", authorization)
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		s.Fatal(err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		s.Fatal(err)
	}
	if strings.Contains(string(body), canary) {
		s.Errorf("%s shows a secret", path)
	}
	return response.StatusCode, string(body)
}

func TestServiceKeepsTheMirrorCurrentAndTellsItsHealthAndMetrics(t *testing.T) {
	t.Parallel()
	f := newFixture(t, 250, 30)
	s := serve(t, "--config", f.write(t, f.yaml(nil, `schedule: {incremental: "@every 1s", full: "@every 1h"}`)))
	if code, body := s.get("/healthz", ""); code != 200 {
		t.Errorf("/healthz: %d %s", code, body)
	}
	eventually(t, "fresh data", func() bool {
		code, _ := s.get("/healthz/data", "")
		return code == 200
	})
	if code, body := s.get("/readyz", ""); code != 200 {
		t.Errorf("/readyz: %d %s", code, body)
	}
	eventually(t, "what the runs did", func() bool {
		code, body := s.get("/metrics", "")
		for _, want := range []string{
			`syncd_rows_total{change="inserted",organization="acme"} 250`,
			`syncd_rows_total{change="inserted",organization="globex"} 30`,
			`syncd_live_rows{organization="acme"} 250`,
			`syncd_runs_total{kind="full",organization="globex",outcome="succeeded"} 1`,
			`syncd_last_full_run_exact{organization="acme"} 1`,
			`syncd_polar_requests_total{organization="acme",status="5xx"} 0`,
			`syncd_data_age_seconds{organization="globex"} `,
			`syncd_database_up 1`,
		} {
			if code != 200 || !strings.Contains(body, want) {
				return false
			}
		}
		return true
	})
	row := f.sim.Listed(f.orgs[0].ID)[0]
	changed, err := f.sim.Consume(row.ID, "12345.5")
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, "the change", func() bool { return f.consumed(t, row.ID) == changed.Units.Consumed })
	r := s.stop()
	if r.code != exitDone || len(r.plainLines()) > 0 {
		t.Errorf("exit code %d, stderr:\n%s", r.code, r.stderr)
	}
	assertContains(t, r.stderr, `"msg":"serving"`, `"msg":"stopping"`)
}

// TestFailoverToAStandbyIsNotReadyUntilItIsOver, and healthcheck says why.
func TestFailoverToAStandbyIsNotReadyUntilItIsOver(t *testing.T) {
	t.Parallel()
	f := newFixture(t, 30)
	s := serve(t, "--config", f.write(t, f.yaml(nil, `schedule: {incremental: "@every 1s"}`)))
	path := f.listening(t, `listen: "127.0.0.1:`+portOf(t, s.url)+`"`)
	ready := func(want int, part string) func() bool {
		return func() bool {
			code, body := s.get("/readyz", "")
			return code == want && strings.Contains(body, part)
		}
	}
	eventually(t, "ready", ready(200, "true"))
	for _, step := range []struct {
		setting, part string
		code          int
	}{{"on", "the database is read-only", 503}, {"off", "true", 200}} {
		if _, err := f.db.Pool.Exec(t.Context(), `ALTER DATABASE "`+f.db.Name+`" SET default_transaction_read_only = `+step.setting); err != nil {
			t.Fatal(err)
		}
		f.db.Disconnect(t, pgtest.Syncd)
		eventually(t, "read-only "+step.setting, ready(step.code, step.part))
		r := call(t, nil, "healthcheck", "--ready", "--config", path)
		if healthy := step.code == 200; healthy != (r.code == exitDone) || !healthy && !strings.HasSuffix(r.stderr, "/readyz is not ready: the database is read-only\n") {
			t.Errorf("read-only %s: healthcheck: exit code %d, stderr %q", step.setting, r.code, r.stderr)
		}
		if r := call(t, nil, "healthcheck", "--config", path); r.code != exitDone {
			t.Errorf("alive: exit code %d, stderr %q", r.code, r.stderr)
		}
	}
}

func TestAddressInUseIsOneLineThatNamesTheSetting(t *testing.T) {
	t.Parallel()
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	address := taken.Addr().String()
	f := newWithoutDatabase(t, 30) // whoever asked it would end with exit code 3
	for setting, section := range map[string]string{
		"http.listen":         `http: {listen: "` + address + `"}`,
		"http.webhook_listen": `http: {listen: "127.0.0.1:0", webhook_listen: "` + address + `"}`,
	} {
		r := call(t, nil, "--config", f.write(t, f.yaml(nil, section)))
		if r.code != exitUsage {
			t.Errorf("%s: exit code %d", setting, r.code)
		}
		assertContains(t, only(t, r.plainLines()), "syncd: "+setting+": "+address+" is in use by another program", "set another address")
	}
	r := call(t, nil, "--backfill", "--pprof", address, "--config", f.config)
	if r.code != exitUsage {
		t.Errorf("--pprof: exit code %d", r.code)
	}
	assertContains(t, only(t, r.plainLines()), "syncd: --pprof: "+address)
	if r := call(t, nil, "--backfill", "--config", f.write(t, f.yaml(nil, `http: {listen: "`+address+`"}`))); r.code != exitDatabase {
		t.Errorf("a backfill, which does not listen: exit code %d, %s", r.code, r.stderr)
	}
}
