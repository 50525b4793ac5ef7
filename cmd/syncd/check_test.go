package main

import (
	"context"
	"encoding/base64"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"polarmirror/internal/config"
	"polarmirror/internal/mirror"
	"polarmirror/internal/polarsim"
	"polarmirror/internal/secret"
)

func TestCheckOfflineAsksNobody(t *testing.T) {
	t.Parallel()
	f := newWithoutDatabase(t, 30)
	r := call(t, nil, "config", "check", "--offline", "--config", f.config)
	if r.code != exitDone || r.stderr != "" || f.sim.RequestCount() != 0 {
		t.Errorf("exit code %d, stderr %q, %d requests", r.code, r.stderr, f.sim.RequestCount())
	}
	assertContains(t, r.stdout, "✓ configuration: "+f.config+" is valid; organizations: acme")
}

func TestCheckShowsTheNextRuns(t *testing.T) {
	t.Parallel()
	check := func(schedule string) string {
		path := filepath.Join(t.TempDir(), "config.yaml")
		text := "organizations: [{name: acme, id: 1dbfc517-0bbf-4301-9ba8-555ca42b9737, access_token: polar_oat_x}]\nschedule: " + schedule + "\n"
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		r := call(t, nil, "config", "check", "--offline", "--config", path)
		if r.code != exitDone {
			t.Errorf("exit code %d, stderr %s", r.code, r.stderr)
		}
		return r.stdout
	}
	got := check(`{incremental: "@every 30s", full: "30 2 * * *", timezone: Europe/Berlin}`)
	next := `20\d\d-\d\d-\d\d 02:30:00 CES?T`
	for _, want := range []string{
		`✓ schedule\.incremental: the next times are .*:[03]0 CES?T, .*:[03]0 CES?T, .*:[03]0 CES?T\n`,
		`✓ schedule\.full: the next times are ` + next + ", " + next + ", " + next + `\n`,
	} {
		if !regexp.MustCompile(want).MatchString(got) {
			t.Errorf("%s is missing in:\n%s", want, got)
		}
	}
	if got := check(`{incremental: "* * * * *", full: "", timezone: Europe/Berlin}`); strings.Contains(got, "schedule.full: the next") {
		t.Errorf("times of a schedule that is off:\n%s", got)
	}
}

func TestCheckFindsAllWellAndChangesNothing(t *testing.T) {
	t.Parallel()
	f := newUnmigrated(t, 1234, 40)
	r := call(t, nil, "config", "check", "--config", f.config)
	if r.code != exitDone || strings.Contains(r.stdout, "✗") {
		t.Errorf("exit code %d, stdout:\n%s", r.code, r.stdout)
	}
	assertContains(t, r.stdout,
		"✓ organization acme: its token is valid at "+f.url+" and sees ",
		"✓ database: reachable, Postgres ",
		" may create schema polar",
		"✓ database: a connection keeps its session",
		"✓ a backfill of ",
	)
	if got := f.sim.RequestCount(); got != 2 {
		t.Errorf("%d requests, want one an organization", got)
	}
	var exists bool
	if err := f.db.Pool.QueryRow(t.Context(), `SELECT to_regnamespace('polar') IS NOT NULL`).Scan(&exists); err != nil || exists {
		t.Errorf("schema exists: %v, %v", exists, err)
	}
	if r := call(t, nil, "migrate", "up", "--config", f.config); r.code != exitDone {
		t.Fatal(r.stderr)
	}
	r = call(t, nil, "config", "check", "--config", f.config)
	if r.code != exitDone || strings.Contains(r.stdout, "!") {
		t.Errorf("exit code %d, stdout:\n%s", r.code, r.stdout)
	}
	assertContains(t, r.stdout, " may write schema polar", "✓ database: a row of each table was written, read back and rolled back")
	var rows int
	if err := f.db.Pool.QueryRow(t.Context(), `SELECT count(*) FROM polar.organizations`).Scan(&rows); err != nil || rows != 0 {
		t.Errorf("%d rows were left: %v", rows, err)
	}

	// What a run would stumble over: the rights are there, and the rows are refused all
	// the same.
	if _, err := f.db.Pool.Exec(t.Context(), `ALTER TABLE polar.customers ADD CHECK (name = 'nobody')`); err != nil {
		t.Fatal(err)
	}
	r = call(t, nil, "config", "check", "--config", f.config)
	if r.code != exitDatabase {
		t.Errorf("exit code %d", r.code)
	}
	assertContains(t, r.stdout, "✗ database: a run could not write: write a block: ", "violates check constraint")
}

func TestCheckNamesTheCureForEachToken(t *testing.T) {
	t.Parallel()
	const expired, narrow = "polar_oat_expired" + canary, "polar_oat_narrow" + canary
	f := newFixture(t, 30, 40, 0)
	f.sim.SetToken(polarsim.Token{Secret: expired, Expired: true})
	f.sim.SetToken(polarsim.Token{Secret: narrow, NoScope: true})
	check := func(code int, yaml string, parts ...string) {
		t.Helper()
		r := call(t, nil, "config", "check", "--config", f.write(t, yaml))
		if r.code != code {
			t.Errorf("exit code %d, want %d", r.code, code)
		}
		assertContains(t, r.stdout, append(parts, "✓ database: reachable")...) // what is wrong elsewhere keeps nothing from being looked at
	}
	check(exitUsage, f.yaml(map[string]string{"acme": expired, "globex": narrow, "initech": f.orgs[0].Token}),
		"✗ organization acme: ", "production and sandbox tokens don't work on each other",
		"✗ organization globex: ", "with the scope customer_meters:read",
		"✗ organization initech: its token cannot see organization "+f.orgs[2].ID.String()+" but sees "+f.orgs[0].ID.String(),
	)
	check(exitFailed, strings.Replace(f.yaml(nil), f.url, "http://127.0.0.1:1", 1),
		"✗ organization acme: Polar gave no usable answer: ", "http://127.0.0.1:1", "check polar.base_url and the network")
	limited := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Retry-After", "6") // longer than the doctor tries
		w.WriteHeader(http.StatusTooManyRequests)
	}))
	t.Cleanup(limited.Close)
	check(exitFailed, strings.Replace(f.yaml(nil), f.url, limited.URL, 1),
		"✗ organization acme: Polar gave no usable answer: ", "lower polar.requests_per_minute")

	// Polar's API in an old version, and then in one that was removed.
	versioned := strings.Replace(f.yaml(nil), "polar: {", `polar: {api_version: "2026-04", `, 1)
	old := "! polar.api_version 2026-04 is older than " + config.DefaultAPIVersion
	check(exitDone, versioned, old, "✓ organization acme: its token is valid", "! organization initech: its token is valid and sees no customer meters")
	f.sim.RemoveVersion("2026-04")
	check(exitUsage, versioned, old, "✗ organization acme: ",
		"this API version is unknown to Polar or has been removed: polar.api_version is 2026-04, and this syncd is made for "+config.DefaultAPIVersion)
}

// TestCheckSaysWhichKeyRulesAWebhookSecretSatisfies without showing the secret.
func TestCheckSaysWhichKeyRulesAWebhookSecretSatisfies(t *testing.T) {
	t.Parallel()
	const both, one = "✓ organization acme: its webhook secret satisfies both of Polar's key rules: the base64 behind whsec_", "✓ organization acme: its webhook secret satisfies one of Polar's key rules: the whole text"
	const doubt = "! organization acme: its webhook secret begins with whsec_, but no key in base64 follows"
	f := newWithoutDatabase(t, 0)
	for secret, want := range map[string]string{
		"whsec_" + base64.StdEncoding.EncodeToString([]byte(canary)): both,
		"whsec_" + canary + "abc":                                    both,
		"polar_whs_" + canary:                                        one,
		"whsec_":                                                     doubt,
		"whsec_" + canary + "!":                                      doubt,
		"whsec_chosen by " + canary:                                  doubt,
		"whsec_AAAAAAAAAAAAAAAAAAAAA":                                doubt,
	} {
		for _, line := range []string{"webhook_secret: " + strconv.Quote(secret), "webhook_secret_file: " + strconv.Quote(writeFile(t, "secret", secret+"\n"))} {
			r := call(t, nil, "config", "check", "--offline", "--config", f.write(t, f.withSecret(line)))
			if r.code != exitDone || !strings.Contains(r.stdout, want) || strings.Contains(r.stdout+r.stderr, canary) {
				t.Errorf("%s: exit code %d, want %q in:\n%s%s", line, r.code, want, r.stdout, r.stderr)
			}
		}
	}
}

func TestCheckWithoutDatabaseIsExitCode3(t *testing.T) {
	t.Parallel()
	f := newWithoutDatabase(t, 30)
	r := call(t, nil, "config", "check", "--config", f.config)
	if r.code != exitDatabase {
		t.Errorf("exit code %d", r.code)
	}
	assertContains(t, r.stdout, "✗ database nobody@127.0.0.1:1/db cannot be reached", "✓ organization acme")
}

func TestCheckFindsMissingRights(t *testing.T) {
	t.Parallel()
	f := newUnmigrated(t, 30)
	u, err := url.Parse(f.db.URL)
	if err != nil {
		t.Fatal(err)
	}
	q := u.Query()
	q.Set("options", "-c role=pg_monitor")                  // a role of every Postgres, which may create nothing
	u.RawQuery = strings.ReplaceAll(q.Encode(), "+", "%20") // Postgres's addresses know no plus
	path := f.write(t, strings.Replace(f.yaml(nil), f.db.URL, u.String(), 1))
	r := call(t, nil, "config", "check", "--config", path)
	if r.code != exitDatabase {
		t.Errorf("exit code %d", r.code)
	}
	assertContains(t, r.stdout, "✗ database: role pg_monitor may not create schema polar: let an administrator run CREATE SCHEMA polar AUTHORIZATION pg_monitor")

	if r := call(t, nil, "migrate", "up", "--config", f.config); r.code != exitDone {
		t.Fatal(r.stderr)
	}
	r = call(t, nil, "config", "check", "--config", path)
	if r.code != exitDatabase {
		t.Errorf("exit code %d for a schema of another role", r.code)
	}
	assertContains(t, r.stdout, "✗ database: schema polar exists and role pg_monitor does not own it")
}

func TestDatabaseOfAnotherEncodingIsOneErrorAndExitCode3(t *testing.T) {
	t.Parallel()
	f := newFixture(t, 30)
	name := f.db.Name + "_latin1"
	for _, sql := range []string{`DROP DATABASE IF EXISTS ` + name, `CREATE DATABASE ` + name + ` TEMPLATE template0 ENCODING 'LATIN1' LC_COLLATE 'C' LC_CTYPE 'C'`} {
		if _, err := f.db.Pool.Exec(t.Context(), sql); err != nil {
			t.Fatal(err)
		}
	}
	t.Cleanup(func() {
		if _, err := f.db.Pool.Exec(context.WithoutCancel(t.Context()), `DROP DATABASE `+name+` WITH (FORCE)`); err != nil {
			t.Error(err)
		}
	})
	path := f.write(t, strings.Replace(f.yaml(nil), f.db.Name, name, 1))
	r := call(t, nil, "--backfill", "--config", path)
	if r.code != exitDatabase {
		t.Errorf("exit code %d", r.code)
	}
	want := []string{"encoding of database \"" + name + "\" is LATIN1", "CREATE DATABASE \"" + name + "_utf8\""}
	assertContains(t, only(t, r.plainLines()), want...)
	r = call(t, nil, "config", "check", "--config", path)
	if r.code != exitDatabase {
		t.Errorf("config check: exit code %d", r.code)
	}
	assertContains(t, r.stdout, want...)
}

// TestCheckComparesTheConnectionsThatAreGranted: a run under the same limits works
// all the same, since the pool waits.
func TestCheckComparesTheConnectionsThatAreGranted(t *testing.T) {
	t.Parallel()
	f := newUnmigrated(t, 150, 150, 150)
	path, exec := f.asRole(t)
	exec(`CREATE SCHEMA polar AUTHORIZATION ROLE_NAME`)
	for _, tt := range []struct {
		limit string
		code  int
		want  []string
	}{
		{`SELECT 'nothing in the way'`, exitDone, nil},
		{`ALTER ROLE ROLE_NAME CONNECTION LIMIT 7`, exitDone, []string{"! database: the role leaves 7 connections", "ALTER ROLE role_", " CONNECTION LIMIT -1"}},
		{`ALTER DATABASE DATABASE_NAME CONNECTION LIMIT 4`, exitDatabase, []string{"✗ database: the database leaves ", "ALTER DATABASE " + f.db.Name + " CONNECTION LIMIT -1"}},
		{`ALTER DATABASE DATABASE_NAME CONNECTION LIMIT -1; ALTER ROLE ROLE_NAME CONNECTION LIMIT 3`, exitDatabase, []string{"✗ database: the role leaves 3 connections", "sync.concurrency"}},
	} {
		exec(tt.limit)
		r := call(t, nil, "config", "check", "--config", path)
		if r.code != tt.code || tt.want == nil && strings.Contains(r.stdout, "connections to syncd") {
			t.Errorf("%s: exit code %d, want %d, stdout:\n%s", tt.limit, r.code, tt.code, r.stdout)
		}
		assertContains(t, r.stdout, tt.want...)
	}
	if r := call(t, nil, "--backfill", "--config", path); r.code != exitDone {
		t.Errorf("backfill: exit code %d:\n%s", r.code, r.stderr)
	}
	for _, org := range f.orgs {
		f.compareAll(t, org.ID)
	}
}

func TestCheckWithoutEmbeddedDatabaseLooksForPostgres(t *testing.T) {
	t.Parallel()
	f := newWithoutDatabase(t, 30)
	dir := t.TempDir() + "/db"
	path := f.write(t, strings.Replace(f.yaml(nil), `{url: "`+f.db.URL+`"}`, `{url: "", data_dir: `+dir+`}`, 1))
	r := call(t, nil, "config", "check", "--config", path)
	if r.code != exitDone || !strings.Contains(r.stdout, "will be made in "+dir) && !strings.Contains(r.stdout, "no Postgres is installed") {
		t.Errorf("exit code %d, stdout:\n%s", r.code, r.stdout)
	}
}

func TestBackfillEstimateFollowsWhatIsScarce(t *testing.T) {
	t.Parallel()
	org := func(token string, rows int, start time.Duration) seenOrganization {
		return seenOrganization{mirror.Probe{Rows: rows, Start: start}, secret.New(token).Sum()}
	}
	quota := config.Polar{RequestsPerMinute: 100, Concurrency: 10} // 99 are used
	none := config.Polar{Concurrency: 10}
	tests := []struct {
		name     string
		seen     []seenOrganization
		polar    config.Polar
		atATime  int
		requests int
		took     time.Duration
	}{
		{"the quota", []seenOrganization{org("a", 10_000, 0)}, quota, 4, 134, 82 * time.Second},
		{"tokens of their own", []seenOrganization{org("a", 10_000, 0), org("b", 10_000, 0)}, quota, 4, 268, 82 * time.Second},
		{"a shared token", []seenOrganization{org("a", 10_000, 0), org("a", 10_000, 0)}, quota, 4, 268, 164 * time.Second},
		{"one at a time", []seenOrganization{org("a", 10_000, 0), org("b", 10_000, 0)}, quota, 1, 268, 164 * time.Second},
		{"slow answers", []seenOrganization{org("a", 10_000, 12*time.Second)}, quota, 4, 134, 162 * time.Second},
		{"no quota", []seenOrganization{org("a", 10_000, time.Second)}, none, 4, 134, 14 * time.Second},
		{"deep pages", []seenOrganization{org("a", 1_000_000, 0)}, none, 4, 13_377, 125 * time.Second},
		{"deep pages and the quota", []seenOrganization{org("a", 1_000_000, 0)}, quota, 4, 13_377, 8107 * time.Second},
		{"hardly anything", []seenOrganization{org("a", 3, 0)}, quota, 4, 1, time.Second},
	}
	for _, tt := range tests {
		_, requests, took := backfillEstimate(tt.seen, tt.polar, tt.atATime)
		if requests != tt.requests || took.Round(time.Second) != tt.took {
			t.Errorf("%s: %d requests and %v, want %d and %v", tt.name, requests, took, tt.requests, tt.took)
		}
	}
}
