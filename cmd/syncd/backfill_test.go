package main

import (
	"context"
	"net/http"
	"os"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"polarmirror/internal/polarsim"
)

// TestSecondBackfillWritesNothing, and flags say what is logged of it. The token of
// one organization lies in a file, and is replaced when Polar has just been asked
// with the old one.
func TestSecondBackfillWritesNothing(t *testing.T) {
	t.Parallel()
	f := newFixture(t, 1234, 20)
	token, newer := writeFile(t, "token", "polar_oat_old"+canary+"\n"), writeFile(t, "token", f.orgs[1].Token+"\n")
	var once sync.Once
	f.sim.Before(func(int, *http.Request) {
		once.Do(func() {
			if err := os.Rename(newer, token); err != nil { // at once: the file is never empty
				t.Error(err)
			}
		})
	})
	yaml := strings.Replace(f.yaml(nil, "log: {level: error}"), `access_token: "`+f.orgs[1].Token+`"`, "access_token_file: "+token, 1)
	path := f.write(t, yaml)
	first := call(t, nil, "--backfill", "--config", path)
	if first.code != exitDone || first.stderr != "" {
		t.Fatalf("exit code %d, stderr at level error:\n%s", first.code, first.stderr)
	}
	for _, o := range f.orgs {
		if got, want := f.rows(t, o.Name), len(f.sim.Listed(o.ID)); got != want {
			t.Errorf("%s: %d rows mirrored of %d", o.Name, got, want)
		}
	}
	row := regexp.MustCompile(`acme +│ 1,234 │ +1,234 │ +0 │ .* │ yes +│ .* succeeded`)
	if !row.MatchString(first.stdout) {
		t.Errorf("no row like %s in:\n%s", row, first.stdout)
	}
	if strings.Contains(first.stdout, "Nothing had changed") {
		t.Error("the first backfill says that nothing had changed")
	}

	second := call(t, nil, "--backfill", "--config", path, "--log-level", "debug")
	if second.code != exitDone || len(second.plainLines()) > 0 || !strings.Contains(second.stderr, `"level":"debug"`) {
		t.Fatalf("exit code %d, stderr:\n%s", second.code, second.stderr)
	}
	assertContains(t, second.stdout, "Nothing had changed at Polar since the last run: 0 rows inserted, 0 updated.")

	third := call(t, nil, "--backfill", "--config", path, "--log-level", "info", "--log-format", "console", "--organization", "globex")
	assertContains(t, third.stderr, "INFO  run finished")
	if strings.Contains(third.stderr, `"level"`) || strings.Contains(third.stderr, "DEBUG") {
		t.Errorf("not for people, or not at level info: %s", third.stderr)
	}
}

// TestBadTokenOfOneOrganizationLeavesTheOthersSucceed, and each that fails is a line.
func TestBadTokenOfOneOrganizationLeavesTheOthersSucceed(t *testing.T) {
	t.Parallel()
	const wrong, narrow = "polar_oat_wrong" + canary, "polar_oat_narrow" + canary
	f := newFixture(t, 30, 40, 50)
	f.sim.SetToken(polarsim.Token{Secret: narrow, NoScope: true})
	r := call(t, nil, "--backfill", "--config", f.write(t, f.yaml(map[string]string{"globex": wrong, "initech": narrow})))
	lines := r.plainLines()
	if r.code != exitFailed || len(lines) != 2 {
		t.Fatalf("exit code %d, lines:\n%s", r.code, strings.Join(lines, "\n"))
	}
	assertContains(t, lines[0], "organization globex", "create a token with the scope customer_meters:read")
	assertContains(t, lines[1], "organization initech", "with the scope customer_meters:read")
	if strings.Count(lines[0], "organization globex") != 1 {
		t.Errorf("the organization is named twice: %s", lines[0])
	}
	for _, row := range []string{`acme .* succeeded`, `globex .* failed`, `initech .* failed`} {
		if !regexp.MustCompile(row).MatchString(r.stdout) {
			t.Errorf("no row like %s in:\n%s", row, r.stdout)
		}
	}
	for name, want := range map[string]int{"acme": 30, "globex": 0, "initech": 0} {
		if got := f.rows(t, name); got != want {
			t.Errorf("%s: %d rows, want %d", name, got, want)
		}
	}
}

func TestBackfillOfNamedOrganizationsLeavesTheOthers(t *testing.T) {
	t.Parallel()
	f := newFixture(t, 30, 40, 50)
	r := call(t, nil, "--backfill", "--config", f.config, "--organization", "globex", "--organization", "initech")
	if r.code != exitDone {
		t.Fatalf("exit code %d, stderr:\n%s", r.code, r.stderr)
	}
	for name, want := range map[string]int{"acme": 0, "globex": 40, "initech": 50} {
		if got := f.rows(t, name); got != want {
			t.Errorf("%s: %d rows, want %d", name, got, want)
		}
	}
	unknown := call(t, nil, "--backfill", "--config", f.config, "--organization", "hooli")
	if unknown.code != exitUsage {
		t.Errorf("exit code %d for an unknown organization", unknown.code)
	}
	assertContains(t, only(t, unknown.plainLines()), `no organization "hooli"; configured: acme, globex, initech`)
}

func TestInterruptedBackfillSaysThatItResumes(t *testing.T) {
	t.Parallel()
	const rows = 3000
	f := newFixture(t, rows)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var stop atomic.Bool
	stop.Store(true)
	f.sim.Before(func(n int, _ *http.Request) {
		if n >= 25 && stop.Load() {
			cancel()
		}
	})
	r := callContext(ctx, t, nil, "--backfill", "--config", f.config)
	if r.code != exitFailed {
		t.Errorf("exit code %d, stderr:\n%s", r.code, r.stderr)
	}
	assertContains(t, only(t, r.plainLines()), "the next --backfill goes on from there")
	saved := f.rows(t, "acme")
	if saved == 0 || saved == rows {
		t.Errorf("%d rows saved: not interrupted between blocks", saved)
	}

	stop.Store(false)
	f.sim.ForgetRequests()
	again := call(t, nil, "--backfill", "--config", f.config)
	if again.code != exitDone {
		t.Fatalf("exit code %d, stderr:\n%s", again.code, again.stderr)
	}
	if got := f.rows(t, "acme"); got != rows {
		t.Errorf("%d rows in the end", got)
	}
	if all, got := rows*140/100/100, f.sim.RequestCount(); got > all-saved/100 {
		t.Errorf("%d requests after %d rows were saved: it began anew", got, saved)
	}
}

func TestProfilesOfARunningBackfill(t *testing.T) {
	t.Parallel()
	f := newFixture(t, 30)
	arrived, release := f.block(t)
	t.Cleanup(release)
	s := &service{TB: t, stdout: &buffer{}, stderr: &buffer{}}
	code := 0
	var running sync.WaitGroup
	running.Go(func() {
		code = run(context.WithoutCancel(t.Context()), []string{"--backfill", "--pprof", ":0", "--config", f.config}, variables(nil).lookup, s.stdout, s.stderr)
	})
	s.url = s.logged("profiles")
	<-arrived
	if code, body := s.get("/goroutine?debug=1", ""); code != 200 || !strings.Contains(body, "polarmirror/internal/mirror") {
		t.Errorf("%d %.200s", code, body)
	}
	release()
	if running.Wait(); code != exitDone {
		t.Errorf("exit code %d, stderr:\n%s", code, s.stderr.String())
	}
	if _, err := http.Get(s.url); err == nil {
		t.Error("still listening")
	}
}
