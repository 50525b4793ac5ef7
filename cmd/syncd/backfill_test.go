package main

import (
	"context"
	"net/http"
	"regexp"
	"strings"
	"sync/atomic"
	"testing"

	"polarmirror/internal/polarsim"
)

func TestSecondBackfillWritesNothing(t *testing.T) {
	t.Parallel()
	f := newFixture(t, 1234, 250, 20)
	first := call(t, nil, "--backfill", "--config", f.config)
	if first.code != exitDone {
		t.Fatalf("exit code %d, stderr:\n%s", first.code, first.stderr)
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

	second := call(t, nil, "--backfill", "--config", f.config)
	if second.code != exitDone {
		t.Fatalf("exit code %d, stderr:\n%s", second.code, second.stderr)
	}
	assertContains(t, second.stdout, "Nothing had changed at Polar since the last run: 0 rows inserted, 0 updated.")
	for _, line := range second.plainLines() {
		t.Errorf("on stderr, not of the log: %s", line)
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

func TestBadTokenOfOneOrganizationLeavesTheOthersSucceed(t *testing.T) {
	t.Parallel()
	const wrong, narrow = "polar_oat_wrong" + canary, "polar_oat_narrow" + canary
	tests := []struct{ name, token, cure string }{
		{"wrong token", wrong, "create a token with the scope customer_meters:read"},
		{"missing scope", narrow, "with the scope customer_meters:read"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			f := newFixture(t, 30, 40, 50)
			f.sim.SetToken(polarsim.Token{Secret: narrow, Organizations: nil, NoScope: true})
			path := f.write(t, f.yaml(map[string]string{"globex": tt.token}))
			r := call(t, nil, "--backfill", "--config", path)
			if r.code != exitFailed {
				t.Errorf("exit code %d", r.code)
			}
			line := only(t, r.plainLines())
			assertContains(t, line, "organization globex", tt.cure)
			if strings.Count(line, "organization globex") != 1 {
				t.Errorf("the organization is named twice: %s", line)
			}
			for name, want := range map[string]int{"acme": 30, "globex": 0, "initech": 50} {
				if got := f.rows(t, name); got != want {
					t.Errorf("%s: %d rows, want %d", name, got, want)
				}
			}
			for _, row := range []string{`acme .* succeeded`, `globex .* failed`, `initech .* succeeded`} {
				if !regexp.MustCompile(row).MatchString(r.stdout) {
					t.Errorf("no row like %s in:\n%s", row, r.stdout)
				}
			}
		})
	}
}

func TestEveryFailingOrganizationIsALine(t *testing.T) {
	t.Parallel()
	f := newFixture(t, 30, 40, 50)
	path := f.write(t, f.yaml(map[string]string{"acme": "polar_oat_a" + canary, "initech": "polar_oat_b" + canary}))
	r := call(t, nil, "--backfill", "--config", path)
	lines := r.plainLines()
	if r.code != exitFailed || len(lines) != 2 {
		t.Fatalf("exit code %d, lines:\n%s", r.code, strings.Join(lines, "\n"))
	}
	assertContains(t, lines[0], "organization acme")
	assertContains(t, lines[1], "organization initech")
}

func TestTokenFileIsReadAgainWhenPolarRefusesIt(t *testing.T) {
	t.Parallel()
	f := newFixture(t, 500)
	file := writeFile(t, "token", f.orgs[0].Token+"\n")
	yaml := strings.Replace(f.yaml(nil), `access_token: "`+f.orgs[0].Token+`"`, "access_token_file: "+file, 1)
	r := call(t, nil, "--backfill", "--config", f.write(t, yaml))
	if r.code != exitDone {
		t.Fatalf("exit code %d, stderr:\n%s", r.code, r.stderr)
	}
	if got := f.rows(t, "acme"); got != 500 {
		t.Errorf("%d rows", got)
	}
}

func TestInterruptedBackfillSaysThatItResumes(t *testing.T) {
	t.Parallel()
	large(t)
	f := newFixture(t, 9000)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var stop atomic.Bool
	stop.Store(true)
	f.sim.Before(func(n int, _ *http.Request) {
		if n >= 60 && stop.Load() {
			cancel()
		}
	})
	r := callContext(ctx, t, nil, "--backfill", "--config", f.config)
	if r.code != exitFailed {
		t.Errorf("exit code %d, stderr:\n%s", r.code, r.stderr)
	}
	assertContains(t, only(t, r.plainLines()), "the next --backfill goes on from there")
	saved := f.rows(t, "acme")
	if saved == 0 || saved == 9000 {
		t.Errorf("%d rows saved: not interrupted between blocks", saved)
	}

	stop.Store(false)
	f.sim.ForgetRequests()
	again := call(t, nil, "--backfill", "--config", f.config)
	if again.code != exitDone {
		t.Fatalf("exit code %d, stderr:\n%s", again.code, again.stderr)
	}
	if got := f.rows(t, "acme"); got != 9000 {
		t.Errorf("%d rows in the end", got)
	}
	if all, got := 9000*140/100/100+30, f.sim.RequestCount(); got > all-saved/100 {
		t.Errorf("%d requests after %d rows were saved: it began anew", got, saved)
	}
}
