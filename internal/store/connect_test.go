package store_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"polarmirror/internal/pgtest"
	"polarmirror/internal/secret"
	"polarmirror/internal/store"
)

// show returns settings as a program finds them on its next connection.
func show(t testing.TB, address string, names ...string) string {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), address)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(t.Context())
	var values []string
	for _, name := range names {
		var value string
		if err := conn.QueryRow(t.Context(), `SHOW `+name, pgx.QueryExecModeSimpleProtocol).Scan(&value); err != nil {
			t.Fatal(err)
		}
		values = append(values, value)
	}
	return strings.Join(values, " ")
}

// TestServerThatRefusesIsNotSaidToBeDown: the remedy of an error names what can be
// wrong, and no more.
func TestServerThatRefusesIsNotSaidToBeDown(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	missing := strings.Replace(db.URL, "/pgtest_db_", "/no_such_", 1)
	for address, down := range map[string]bool{missing: false, "postgres://syncd@127.0.0.1:1/db": true} {
		_, err := store.Open(t.Context(), store.Options{URL: secret.New(address)})
		var unreachable *store.UnusableError
		if !errors.As(err, &unreachable) {
			t.Fatalf("got %v", err)
		}
		if text := err.Error(); strings.Contains(text, "the server is up") != down || !strings.Contains(text, "check database.url") {
			t.Errorf("down %t, but: %s", down, text)
		}
	}
}

// TestServerGivesALostHostUp reads from the server's socket, through the session
// that holds the lock: probes after 10 s, at most three of them five seconds
// apart, and 25 s for what is not acknowledged, are under 30 s together.
func TestServerGivesALostHostUp(t *testing.T) {
	t.Parallel()
	session, _ := open(t)
	for name, want := range map[string]string{
		"tcp_keepalives_idle":     "10",
		"tcp_keepalives_interval": "5",
		"tcp_keepalives_count":    "3",
		"tcp_user_timeout":        "25000",
		"idle_session_timeout":    "0",
		// A killed process, while one of its statements runs.
		"client_connection_check_interval": "2s",
	} {
		got, err := session.Show(t.Context(), name)
		if err != nil {
			t.Fatal(err)
		}
		if got != want {
			t.Errorf("%s is %s, want %s", name, got, want)
		}
	}
}

// TestHolderCutOffTheNetworkIsReplacedAndCannotWrite: the server has given the
// host up, the host does not know it yet.
func TestHolderCutOffTheNetworkIsReplacedAndCannotWrite(t *testing.T) {
	t.Parallel()
	st, db := pgtest.NewStore(t)
	wire, address := pgtest.NewWire(t, db.URL)
	far, err := store.Open(t.Context(), store.Options{URL: secret.New(address), MaxConnections: 3})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(far.Close)
	old := openOn(t, far)
	run := start(t, old, store.Full)
	save(t, old, run, &store.Block{CustomerMeters: rows(sample(t, 1))})

	wire.Cut()
	fresh, err := st.Acquire(t.Context(), organization, true)
	if err != nil {
		t.Fatal(err)
	}
	defer fresh.Release()
	second := start(t, fresh, store.Full)
	if dead := fresh.Abandoned(); len(dead) != 1 || dead[0].ID != run.ID || dead[0].Counts.RowsInserted != 1 {
		t.Errorf("abandoned %+v, want the old one's run and what it saved", dead)
	}

	wrote := make(chan error, 1)
	go func() {
		_, err := old.SaveBlock(t.Context(), run, &store.Block{CustomerMeters: rows(sample(t, 2))})
		wrote <- err
	}()
	save(t, fresh, second, &store.Block{CustomerMeters: rows(sample(t, 3))})
	wire.Mend()
	if err := <-wrote; !store.Broken(err) {
		t.Errorf("the old one wrote, or does not know why it could not: %v", err)
	}
	if err := old.FinishRun(t.Context(), run, store.Outcome{}); err == nil {
		t.Error("the old one finished its run")
	}
	const want = "abandoned running 1 3"
	got := lookup(t, db, `
SELECT concat_ws(' ', (SELECT status FROM polar.sync_runs WHERE id = $1), (SELECT status FROM polar.sync_runs WHERE id = $2),
       (SELECT string_agg(right(id::text, 1), ' ' ORDER BY id) FROM polar.customer_meters))`, run.ID, second.ID)
	if got != want {
		t.Errorf("runs and rows are %q, want %q", got, want)
	}
}

// TestKilledHolderIsReplacedThoughItsStatementStillRuns: the statement waits for
// a lock that nobody gives up, so that its server process has nothing to read
// that would tell it that the client is gone.
func TestKilledHolderIsReplacedThoughItsStatementStillRuns(t *testing.T) {
	t.Parallel()
	st, db := pgtest.NewStore(t)
	wire, address := pgtest.NewWire(t, db.URL)
	far, err := store.Open(t.Context(), store.Options{URL: secret.New(address), MaxConnections: 3})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(far.Close)
	old := openOn(t, far)
	tx, err := db.Pool.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer tx.Rollback(t.Context())
	const same = `INSERT INTO polar.sync_runs (organization_id, kind, status, started_at, slot) VALUES ($1, 'incremental', 'running', now(), $2)`
	if _, err := tx.Exec(t.Context(), same, organization, minute(1)); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() {
		_, err := old.StartRun(t.Context(), store.Incremental, minute(1)) // waits for tx
		ended <- err
	}()
	for lookup(t, db, `SELECT count(*)::text FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'`) == "0" {
		time.Sleep(10 * time.Millisecond)
	}
	wire.Cut()
	fresh, err := st.Acquire(t.Context(), organization, true)
	if err != nil {
		t.Fatal(err)
	}
	fresh.Release()
	wire.Mend()
	if err := <-ended; !store.Broken(err) {
		t.Errorf("the old one's statement gave %v", err)
	}
}

// TestConnectionsToADemotedServerAreReplaced: the server answers and takes no
// writes, as a primary that has become a standby. What is settled when a
// connection is made stands for the server that it was made to.
func TestConnectionsToADemotedServerAreReplaced(t *testing.T) {
	t.Parallel()
	st, db := pgtest.NewStore(t)
	openOn(t, st).Release()
	alter(t, db, `SET default_transaction_read_only = on`)
	demoted := pgtest.OpenStore(t, db)
	var held []*store.Session
	for n := range 3 { // three connections, which lie idle afterwards
		s, err := demoted.Acquire(t.Context(), numbered('o', 10+n), false)
		if err != nil {
			t.Fatal(err)
		}
		held = append(held, s)
	}
	for _, s := range held[1:] {
		s.Release()
	}
	_, err := held[0].StartRun(t.Context(), store.Full, time.Time{})
	held[0].Release()
	if !store.Broken(err) {
		t.Fatalf("a write to a demoted server gave %v", err)
	}
	alter(t, db, `RESET default_transaction_read_only`) // the address leads to a primary again
	for range 3 {
		s, err := demoted.Acquire(t.Context(), organization, true)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(s.Release)
		run := start(t, s, store.Full)
		if err := s.FinishRun(t.Context(), run, store.Outcome{}); err != nil {
			t.Fatal(err)
		}
		s.Release()
	}
}

func TestPoolOutlivesARestartOfTheServer(t *testing.T) {
	t.Parallel()
	st, db := pgtest.NewStore(t)
	openOn(t, st).Release()
	idle := pgtest.OpenStore(t, db)
	var sessions []*store.Session
	for n := range 4 {
		s, err := idle.Acquire(t.Context(), numbered('o', 10+n), false)
		if err != nil {
			t.Fatal(err)
		}
		sessions = append(sessions, s)
	}
	for _, s := range sessions[1:] {
		s.Release()
	}
	db.Disconnect(t, pgtest.Syncd)
	if _, err := sessions[0].StartRun(t.Context(), store.Full, time.Time{}); !store.Broken(err) {
		t.Errorf("a session that the server ended gave %v", err)
	}
	sessions[0].Release()
	for range 4 { // one failure was enough to be rid of all
		s, err := idle.Acquire(t.Context(), organization, false)
		if err != nil {
			t.Fatal(err)
		}
		s.Release()
	}
}

func alter(t testing.TB, db *pgtest.Database, change string) {
	t.Helper()
	if _, err := db.Pool.Exec(t.Context(), `ALTER DATABASE "`+db.Name+`" `+change); err != nil {
		t.Fatal(err)
	}
}
