package web

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgconn"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"

	"polarmirror/internal/pgtest"
	"polarmirror/internal/secret"
	"polarmirror/internal/store"
)

// serveStore serves the health of a real database's store.
func serveStore(t testing.TB, st Database, organizations ...store.Organization) string {
	t.Helper()
	h := handlers(well())
	h.Health = NewHealth(st, organizations, time.Hour, zap.NewNop())
	return newRig(t, Options{}, h).URL()
}

// ran books a successful run of an organization that began so long ago.
func ran(t testing.TB, db *pgtest.Database, id uuid.UUID, name string, ago time.Duration) {
	t.Helper()
	const sql = `
WITH organization AS (
    INSERT INTO polar.organizations (id, name) VALUES ($1, $2) ON CONFLICT DO NOTHING
)
INSERT INTO polar.sync_runs (organization_id, kind, status, started_at, finished_at, exact)
VALUES ($1, 'full', 'succeeded', now() - $3::interval, now() - $3::interval + interval '1 second', true)`
	if _, err := db.Pool.Exec(t.Context(), sql, id, name, ago); err != nil {
		t.Fatal(err)
	}
}

// ages reads an answer of /healthz/data.
func ages(t testing.TB, base string) (int, dataAnswer) {
	t.Helper()
	response, body := get(t, base, "/healthz/data")
	var answer dataAnswer
	dec := json.NewDecoder(strings.NewReader(body))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&answer); err != nil || strings.Count(body, "\n") != 1 {
		t.Fatalf("%q is no line of JSON: %v", body, err)
	}
	return response.StatusCode, answer
}

func TestDataIsStaleWhenOneOrganizationIsOrHasNone(t *testing.T) {
	t.Parallel()
	st, db := pgtest.NewStore(t)
	acme, globex, gone := uuid.New(), uuid.New(), uuid.New()
	ran(t, db, acme, "acme", 3*time.Hour) // an earlier one does not count
	ran(t, db, acme, "acme", 5*time.Minute)
	ran(t, db, globex, "globex", 2*time.Hour)
	ran(t, db, gone, "gone", 9000*time.Hour) // no longer configured
	type line struct {
		Organization, Status string
		Minutes              int // -1 for null
		Succeeded            bool
	}
	tests := []struct {
		name          string
		organizations []store.Organization
		code          int
		status        string
		want          []line
	}{
		{"all fresh", []store.Organization{{Name: "acme", ID: acme}}, 200, "ok", []line{{"acme", "ok", 5, true}}},
		{"one stale", []store.Organization{{Name: "acme"}, {Name: "globex", ID: globex}}, 503, "stale", []line{{"acme", "ok", 5, true}, {"globex", "stale", 120, true}}},
		{"one without data", []store.Organization{{Name: "acme", ID: acme}, {Name: "initech", ID: uuid.New()}}, 503, "stale", []line{{"acme", "ok", 5, true}, {"initech", "stale", -1, false}}},
	}
	for _, tt := range tests {
		code, answer := ages(t, serveStore(t, st, tt.organizations...))
		var got []line
		for _, o := range answer.Organizations {
			l := line{o.Organization, o.Status, -1, o.LastSuccess != nil}
			if o.AgeSeconds != nil {
				l.Minutes = int(*o.AgeSeconds / 60)
			}
			got = append(got, l)
		}
		if d := cmp.Diff(tt.want, got); d != "" || code != tt.code || answer.Status != tt.status || answer.MaxLagSeconds != 3600 {
			t.Errorf("%s: %d %s, max lag %v (-want +got):\n%s", tt.name, code, answer.Status, answer.MaxLagSeconds, d)
		}
	}
}

func TestAgeIsCountedFromTheStartOfTheRun(t *testing.T) {
	t.Parallel()
	h := NewHealth(well(), nil, time.Hour, zap.NewNop())
	asked := time.Now().Add(-10 * time.Minute)
	age, end := 49*time.Minute, asked
	got := h.age(store.OrgStatus{Organization: "acme", Age: &age, LastFull: store.LastRun{ID: 1, Started: asked.Add(-age), Finished: end}}, asked)
	if got.Status != "ok" || *got.AgeSeconds < 59*60 || !got.LastSuccess.Equal(end) {
		t.Errorf("49 minutes, told 10 minutes ago: %+v, age %v", got, *got.AgeSeconds)
	}
	age += 2 * time.Minute
	if got := h.age(store.OrgStatus{Organization: "acme", Age: &age}, asked); got.Status != "stale" {
		t.Errorf("51 minutes, told 10 minutes ago: %+v", got)
	}
}

func TestReadyOnlyWithAMigratedWritableDatabase(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	opened := func() *store.Store {
		st, err := store.Open(t.Context(), store.Options{URL: secret.New(db.URL), MaxConnections: 2})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(st.Close)
		return st
	}
	expect := func(what, base string, code int, reason string) {
		t.Helper()
		response, body := get(t, base, "/readyz")
		if response.StatusCode != code || !strings.Contains(body, reason) || strings.Count(body, "\n") != 1 {
			t.Errorf("%s: %d %q", what, response.StatusCode, body)
		}
	}
	st := opened()
	expect("not migrated", serveStore(t, st), 503, `{"ready":false,"reason":"the database's schema does not fit: `)
	if _, err := st.Migrate(t.Context()); err != nil {
		t.Fatal(err)
	}
	base := serveStore(t, st)
	expect("migrated", base, 200, `{"ready":true}`)
	if _, err := db.Pool.Exec(t.Context(), `ALTER DATABASE "`+db.Name+`" SET default_transaction_read_only = on`); err != nil {
		t.Fatal(err)
	}
	expect("read-only", serveStore(t, opened()), 503, `"reason":"the database is read-only"`)
	st.Close()
	eventually(t, "not ready without connections", func() bool {
		response, _ := get(t, base, "/readyz")
		return response.StatusCode == 503
	})
	if code, answer := ages(t, base); code != 503 || answer.Status != "unknown" || answer.Reason == "" {
		t.Errorf("data without a database: %d %+v", code, answer)
	}
}

func TestReasonIsTheOneObserved(t *testing.T) {
	t.Parallel()
	server := func(code, message string) error {
		return fmt.Errorf("ask database: %w", &pgconn.PgError{Severity: "FATAL", Code: code, Message: message})
	}
	for want, err := range map[string]error{
		`the database cannot be used: password authentication failed for user … (SQLSTATE 28P01)`:                                                        server("28P01", `password authentication failed for user "`+canary+`"`),
		`the database cannot be used: could not extend file …: No space left on device (SQLSTATE 53100); free space on the disk that holds the database`: server("53100", `could not extend file "base/5/16591": No space left on device`),
		`the database cannot be used: the database system is shutting down (SQLSTATE 57P03)`:                                                             server("57P03", "the database system is\nshutting down"),
		`the database cannot be used: host not found`:                                                                                                    &net.OpError{Op: "dial", Err: &net.DNSError{Name: canary}},
		`the database cannot be used: connect: connection refused`:                                                                                       &net.OpError{Op: "dial", Addr: &net.TCPAddr{IP: net.IPv4(10, 0, 0, 7)}, Err: os.NewSyscallError("connect", syscall.ECONNREFUSED)},
		`the database cannot be used`: errors.New("tls: " + canary),
		`the database is read-only`:   fmt.Errorf("ask database: %w", store.ErrReadOnly),
	} {
		db := fake{ready: func(context.Context) error { return err }, status: well().status}
		response, body := get(t, serveStore(t, db), "/readyz")
		var answer notReady
		if jsonErr := json.Unmarshal([]byte(body), &answer); jsonErr != nil || response.StatusCode != 503 || answer.Reason != want {
			t.Errorf("%v: %d %s, want %q", err, response.StatusCode, body, want)
		}
	}
}

func TestHealthSaysNothingOfAnErrorsText(t *testing.T) {
	t.Parallel()
	secretly := errors.New("connect postgres://u:" + canary + "@10.0.0.7/db: refused")
	db := fake{
		ready:  func(context.Context) error { return secretly },
		status: func(context.Context) ([]store.OrgStatus, error) { return nil, secretly },
	}
	base := serveStore(t, db)
	for _, path := range []string{"/readyz", "/healthz/data"} {
		response, body := get(t, base, path)
		if response.StatusCode != 503 || strings.Contains(body, "10.0.0.7") || !strings.Contains(body, `"the database cannot be used"`) {
			t.Errorf("%s: %d %q", path, response.StatusCode, body)
		}
	}
}

func TestTroubleOfTheDatabaseIsLoggedWhenItBeginsAndEnds(t *testing.T) {
	t.Parallel()
	core, logs := observer.New(zapcore.InfoLevel)
	h := NewHealth(well(), nil, time.Hour, zap.New(core))
	down := errors.New("down")
	for _, err := range []error{nil, down, down, down, nil, nil, down} {
		h.note(err)
	}
	var got []string
	for _, l := range logs.All() {
		got = append(got, l.Message)
	}
	if d := cmp.Diff([]string{"database not ready", "database ready again", "database not ready"}, got); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
}

func TestManyProbesLeaveThePoolToTheWork(t *testing.T) {
	t.Parallel()
	_, db := pgtest.NewStore(t)
	st, err := store.Open(t.Context(), store.Options{URL: secret.New(db.URL), MaxConnections: 3})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(st.Close)
	slow := &gate{Database: st, open: make(chan struct{})}
	base := serveStore(t, slow)
	var probes sync.WaitGroup
	for i := range 300 {
		probes.Go(func() {
			// On a busy machine it may be 503, for want of an answer in time.
			response, _ := get(t, base, []string{"/readyz", "/healthz/data"}[i%2])
			if response.StatusCode != http.StatusOK && response.StatusCode != http.StatusServiceUnavailable {
				t.Errorf("probe %d: %d", i, response.StatusCode)
			}
		})
	}
	eventually(t, "both questions", func() bool { return slow.count() == 2 })
	close(slow.open)
	probes.Wait()
	if most := slow.most(); most > 2 {
		t.Errorf("%d questions at once", most)
	}
}

func TestHungDatabaseIsAnAnswerInTime(t *testing.T) {
	t.Parallel()
	hang := func(ctx context.Context) error {
		<-ctx.Done()
		return ctx.Err()
	}
	base := serveStore(t, fake{ready: hang, status: func(ctx context.Context) ([]store.OrgStatus, error) { return nil, hang(ctx) }})
	for _, path := range []string{"/readyz", "/healthz/data"} {
		if response, body := get(t, base, path); response.StatusCode != 503 || !strings.Contains(body, "does not answer in time") {
			t.Errorf("%s: %d %q", path, response.StatusCode, body)
		}
	}
}

// A gate is a Database whose answers wait until it is opened.
type gate struct {
	Database
	open chan struct{}

	mu            sync.Mutex
	now, together int
}

func (g *gate) pass() (leave func()) {
	g.mu.Lock()
	g.now++
	g.together = max(g.together, g.now)
	g.mu.Unlock()
	<-g.open
	return func() {
		g.mu.Lock()
		g.now--
		g.mu.Unlock()
	}
}

func (g *gate) count() int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.now
}

func (g *gate) most() int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.together
}

func (g *gate) Serviceable(ctx context.Context) error {
	defer g.pass()()
	return g.Database.Serviceable(ctx)
}

func (g *gate) OrgStatus(ctx context.Context, q store.OrgStatusQuery) ([]store.OrgStatus, error) {
	defer g.pass()()
	return g.Database.OrgStatus(ctx, q)
}

// eventually waits for what must come, however slow the machine.
func eventually(t testing.TB, what string, come func() bool) {
	t.Helper()
	for range 2400 {
		if come() {
			return
		}
		time.Sleep(25 * time.Millisecond)
	}
	t.Fatalf("%s did not come", what)
}
