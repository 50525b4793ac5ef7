package main

import (
	"bytes"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"

	"polarmirror/internal/pgtest"
	"polarmirror/internal/polarsim"
)

// mainEnv makes the test binary syncd itself, for tests of signals and of what a
// process leaves behind.
const mainEnv = "SYNCD_TEST_MAIN"

// patience is for what must happen, however slow the machine.
const patience = 2 * time.Minute

func TestMain(m *testing.M) {
	if os.Getenv(mainEnv) != "" {
		main()
		return
	}
	defer pgtest.Keep()()
	// Most of these tests wait for processes: twice as many at a time as usual.
	flag.Parse()
	if parallel := flag.Lookup("test.parallel").Value; parallel.String() == strconv.Itoa(runtime.GOMAXPROCS(0)) {
		_ = parallel.Set(strconv.Itoa(2 * runtime.GOMAXPROCS(0))) // it is a number
	}
	m.Run()
}

// A result is what one call of syncd did.
type result struct {
	code           int
	stdout, stderr string
}

// plainLines are the lines of stderr that are not of the log.
func (r result) plainLines() []string {
	var plain []string
	for line := range strings.Lines(r.stderr) {
		if !json.Valid([]byte(line)) {
			plain = append(plain, strings.TrimSuffix(line, "\n"))
		}
	}
	return plain
}

// variables are the environment of a call.
type variables map[string]string

func (e variables) lookup(name string) (string, bool) {
	v, ok := e[name]
	return v, ok
}

// call runs syncd in this process.
func call(t testing.TB, e variables, args ...string) result {
	t.Helper()
	return callContext(t.Context(), t, e, args...)
}

func callContext(ctx context.Context, t testing.TB, e variables, args ...string) result {
	t.Helper()
	var stdout, stderr buffer
	code := run(ctx, args, e.lookup, &stdout, &stderr)
	r := result{code, stdout.String(), stderr.String()}
	if strings.Contains(r.stdout+r.stderr, canary) {
		t.Errorf("syncd %v shows a secret:\n%s%s", args, r.stdout, r.stderr)
	}
	if strings.Contains(r.stderr, "goroutine ") || strings.Contains(r.stderr, ".go:") {
		t.Errorf("syncd %v shows a stack trace:\n%s", args, r.stderr)
	}
	return r
}

// buffer is a bytes.Buffer for several goroutines.
type buffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

// canary is part of every secret in the tests; nothing may ever print it.
const canary = "canary0secret"

// A fixture is a simulated Polar, a database, and a configuration file that joins
// them.
type fixture struct {
	sim    *polarsim.Server
	url    string
	db     *pgtest.Database
	config string // path
	orgs   []polarsim.Organization
}

// newFixture simulates organizations of so many customer meters, named acme,
// globex and so on, and has a migrated database.
func newFixture(t testing.TB, sizes ...int) *fixture {
	t.Helper()
	return newFixtureOn(t, pgtest.NewMigrated(t), sizes...)
}

// newUnmigrated is newFixture with an empty database.
func newUnmigrated(t testing.TB, sizes ...int) *fixture {
	t.Helper()
	return newFixtureOn(t, pgtest.New(t), sizes...)
}

// newWithoutDatabase is newFixture with the address of a database that nobody answers
// at.
func newWithoutDatabase(t testing.TB, sizes ...int) *fixture {
	t.Helper()
	return newFixtureOn(t, &pgtest.Database{URL: "postgres://nobody@127.0.0.1:1/db"}, sizes...)
}

func newFixtureOn(t testing.TB, db *pgtest.Database, sizes ...int) *fixture {
	t.Helper()
	var orgs []polarsim.Organization
	for i, n := range sizes {
		name := []string{"acme", "globex", "initech"}[i]
		orgs = append(orgs, polarsim.Organization{Name: name, Token: "polar_oat_" + canary + name, CustomerMeters: n, EveryMeter: n > 5000})
	}
	sim := polarsim.New(polarsim.Options{Seed: 7, Organizations: orgs})
	running, err := sim.Start()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := running.Close(); err != nil {
			t.Error(err)
		}
	})
	f := &fixture{sim: sim, url: running.URL, db: db, orgs: sim.Organizations()}
	f.config = f.write(t, f.yaml(nil))
	return f
}

// yaml is the configuration; more has further sections, and tokens replaces
// those of some organizations.
func (f *fixture) yaml(tokens map[string]string, more ...string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "polar: {base_url: %q, requests_per_minute: 0}\n", f.url)
	fmt.Fprintf(&b, "database: {url: %q}\n", f.db.URL)
	if !slices.ContainsFunc(more, func(m string) bool { return strings.HasPrefix(m, "http:") }) {
		b.WriteString("http: {listen: \"127.0.0.1:0\"}\n") // the default is for one syncd at a time
	}
	b.WriteString("organizations:\n")
	for _, o := range f.orgs {
		token := o.Token
		if other, ok := tokens[o.Name]; ok {
			token = other
		}
		fmt.Fprintf(&b, "  - {name: %s, id: %s, access_token: %q}\n", o.Name, o.ID, token)
	}
	for _, m := range more {
		b.WriteString(m + "\n")
	}
	return b.String()
}

func (f *fixture) write(t testing.TB, text string) string {
	t.Helper()
	return writeFile(t, "config.yaml", text)
}

// block has Polar's answers wait until release is called. Each request that
// waits is announced.
func (f *fixture) block(t testing.TB) (arrived <-chan struct{}, release func()) {
	t.Helper()
	blocked, announced := make(chan struct{}), make(chan struct{}, 1000)
	f.sim.Before(func(int, *http.Request) {
		announced <- struct{}{}
		<-blocked
	})
	return announced, sync.OnceFunc(func() { close(blocked) })
}

func writeFile(t testing.TB, name, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// rows counts the mirrored customer meters of an organization.
func (f *fixture) rows(t testing.TB, organization string) int {
	t.Helper()
	var n int
	const sql = `
SELECT count(*)
  FROM polar.customer_meters m
  JOIN polar.organizations o ON o.id = m.organization_id
 WHERE o.name = $1`
	if err := f.db.Pool.QueryRow(t.Context(), sql, organization).Scan(&n); err != nil {
		t.Fatal(err)
	}
	return n
}

// consumed is what the mirror has of a customer meter, with Polar's digits.
func (f *fixture) consumed(t testing.TB, id uuid.UUID) string {
	t.Helper()
	return f.text(t, `SELECT consumed_units::text FROM polar.customer_meters WHERE id = $1`, id)
}

// text runs a query that returns one value.
func (f *fixture) text(t testing.TB, sql string, args ...any) string {
	t.Helper()
	var text *string
	if err := f.db.Pool.QueryRow(t.Context(), sql, args...).Scan(&text); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
	if text == nil {
		return "none"
	}
	return *text
}

func assertContains(t testing.TB, text string, parts ...string) {
	t.Helper()
	for _, part := range parts {
		if !strings.Contains(text, part) {
			t.Errorf("%q is not in:\n%s", part, text)
		}
	}
}

// only returns the only one of lines.
func only(t testing.TB, lines []string) string {
	t.Helper()
	if len(lines) != 1 {
		t.Fatalf("want one line, got %d:\n%s", len(lines), strings.Join(lines, "\n"))
	}
	return lines[0]
}

// large marks a test of many rows or processes. With -short it is left out: the
// race detector makes it slow, and has enough to look at without it.
func large(t testing.TB) {
	t.Helper()
	if testing.Short() {
		t.Skip("large, and -short")
	}
}
