package store_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"golang.org/x/sync/errgroup"

	"polarmirror/internal/pgtest"
	"polarmirror/internal/secret"
	"polarmirror/internal/store"
)

// unsuitable opens the database at address and returns why it is refused.
func unsuitable(t testing.TB, address string) string {
	t.Helper()
	st, err := store.Open(t.Context(), store.Options{URL: secret.New(address), MaxConnections: 2})
	if err == nil {
		st.Close()
	}
	var refused *store.UnusableError
	if !errors.As(err, &refused) || strings.Contains(err.Error(), "\n") {
		t.Fatalf("got %v, want a refusal on one line", err)
	}
	return err.Error()
}

// TestDatabaseThatIsNotUTF8IsRefusedWithTheStatementThatMakesOneThatIs also runs
// that statement.
func TestDatabaseThatIsNotUTF8IsRefusedWithTheStatementThatMakesOneThatIs(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	name := db.Name + "_ascii"
	exec(t, db, `CREATE DATABASE `+name+` TEMPLATE template0 ENCODING 'SQL_ASCII' LC_COLLATE 'C' LC_CTYPE 'C'`)
	t.Cleanup(func() { drop(t, db, name, name+"_utf8") })
	text := unsuitable(t, strings.Replace(db.URL, db.Name, name, 1))
	for _, part := range []string{`"` + name + `"`, "SQL_ASCII", "CREATE DATABASE"} {
		if !strings.Contains(text, part) {
			t.Errorf("%s is not named: %s", part, text)
		}
	}
	_, statement, _ := strings.Cut(text, "to it: ")
	exec(t, db, statement)
	st, err := store.Open(t.Context(), store.Options{URL: secret.New(strings.Replace(db.URL, db.Name, name+"_utf8", 1))})
	if err != nil {
		t.Fatal(err)
	}
	st.Close()
}

func drop(t testing.TB, db *pgtest.Database, names ...string) {
	t.Helper()
	for _, name := range names {
		if _, err := db.Pool.Exec(context.WithoutCancel(t.Context()), `DROP DATABASE IF EXISTS `+name+` WITH (FORCE)`); err != nil {
			t.Error(err)
		}
	}
}

// TestServerThatGrantsEveryLockIsRefused: as some that only speak Postgres's
// protocol do.
func TestServerThatGrantsEveryLockIsRefused(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	exec(t, db, `CREATE OR REPLACE FUNCTION pg_catalog.pg_try_advisory_lock(bigint) RETURNS boolean LANGUAGE sql AS 'SELECT true'`)
	if text := unsuitable(t, db.URL); !strings.Contains(text, "advisory locks do not exclude") {
		t.Errorf("got %s", text)
	}
}

// TestWhatAnswersInsteadOfPostgresIsQuoted: only what was observed is said.
func TestWhatAnswersInsteadOfPostgresIsQuoted(t *testing.T) {
	t.Parallel()
	for said, want := range map[string]string{
		"HTTP/1.1 400 Bad Request\r\n\r\n":                                    "invalid body length",
		"E\x00\x00\x00\x25SFATAL\x00C08P01\x00Mno such\n\tuser: \xff\x00\x00": "no such user: \ufffd (SQLSTATE 08P01)",
		"": "EOF",
	} {
		listener, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = listener.Close() })
		go func() {
			for {
				conn, err := listener.Accept()
				if err != nil {
					return
				}
				_, _ = conn.Read(make([]byte, 4096))
				_, _ = conn.Write([]byte(said))
				_ = conn.Close()
			}
		}()
		_, err = store.Open(t.Context(), store.Options{URL: secret.New("postgres://u:canary@" + listener.Addr().String() + "/db?sslmode=disable")})
		if err == nil {
			t.Fatalf("%q is taken for Postgres", said)
		}
		text := err.Error()
		if !strings.Contains(text, want) || strings.Contains(text, "canary") || strings.ContainsAny(text, "\r\n") || strings.Contains(text, "server is up") {
			t.Errorf("%q: got %q, want %q on one line", said, text, want)
		}
	}
}

// asRole returns the address of db for a new role.
func asRole(t testing.TB, db *pgtest.Database, options string) string {
	t.Helper()
	role := "role_" + strings.ReplaceAll(uuid.NewString(), "-", "")
	exec(t, db, fmt.Sprintf(`CREATE ROLE %s LOGIN PASSWORD 'pw' %s`, role, options))
	exec(t, db, fmt.Sprintf(`GRANT ALL ON SCHEMA polar TO %[1]s; GRANT ALL ON ALL TABLES IN SCHEMA polar TO %[1]s`, role))
	address, err := url.Parse(db.URL)
	if err != nil {
		t.Fatal(err)
	}
	address.User = url.UserPassword(role, "pw")
	return address.String()
}

// TestPoolWaitsForAConnectionThatTheServerRefuses has far more work at once than
// the role may have connections, through each way that the pool is asked.
func TestPoolWaitsForAConnectionThatTheServerRefuses(t *testing.T) {
	t.Parallel()
	_, db := pgtest.NewStore(t)
	st, err := store.Open(t.Context(), store.Options{URL: secret.New(asRole(t, db, "CONNECTION LIMIT 2")), MaxConnections: 20})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(st.Close)
	var work errgroup.Group
	for n := range 4 {
		work.Go(func() error { return st.RegisterOrganization(t.Context(), numbered('o', 100+n), fmt.Sprint(n)) })
		work.Go(func() error {
			s, err := st.Acquire(t.Context(), numbered('o', 100+n), false)
			if err == nil {
				s.Release()
			}
			return err
		})
		work.Go(func() error { return st.Serviceable(t.Context()) })
		work.Go(func() error { _, err := st.DueOrganizations(t.Context()); return err })
		work.Go(func() error { _, err := st.OrgStatus(t.Context(), store.OrgStatusQuery{}); return err })
	}
	if err := work.Wait(); err != nil {
		t.Error(err)
	}
}

// TestCanceledBlockNamesTheCure: somebody cancels a statement that waits.
func TestCanceledBlockNamesTheCure(t *testing.T) {
	t.Parallel()
	st, db := pgtest.NewStore(t)
	s := openOn(t, st)
	run := start(t, s, store.Full)
	tx, err := db.Pool.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer tx.Rollback(t.Context()) //nolint:errcheck // nothing was written
	if _, err := tx.Exec(t.Context(), `LOCK TABLE polar.customers`); err != nil {
		t.Fatal(err)
	}
	block, saved := whole(samples(t, 3)), make(chan error, 1)
	go func() {
		_, err := s.SaveBlock(t.Context(), run, block)
		saved <- err
	}()
	for len(saved) == 0 {
		lookup(t, db, `SELECT count(pg_cancel_backend(pid))::text FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'`)
		time.Sleep(10 * time.Millisecond)
	}
	if err := <-saved; err == nil || !strings.Contains(err.Error(), "57014") || !strings.Contains(err.Error(), "lift the limit for this role") {
		t.Errorf("got %v", err)
	}
}

// TestRehearsalFindsEveryTableThatTakesNoRows breaks one table after the other.
func TestRehearsalFindsEveryTableThatTakesNoRows(t *testing.T) {
	t.Parallel()
	st, db := pgtest.NewStore(t)
	const sql = `
SELECT string_agg(c.relname, ' ' ORDER BY c.relname)
  FROM pg_class c
 WHERE c.relnamespace = 'polar'::regnamespace AND c.relkind IN ('r', 'p') AND NOT c.relispartition
   AND c.relname NOT IN ('goose_db_version', 'schema_compatibility')`
	tables := strings.Fields(lookup(t, db, sql))
	if len(tables) < 10 {
		t.Fatalf("tables are %v", tables)
	}
	counts := func() (all string) {
		for _, table := range tables {
			all += lookup(t, db, `SELECT count(*)::text FROM polar.`+table) + " "
		}
		return all
	}
	before := counts()
	if err := st.Rehearse(t.Context()); err != nil {
		t.Fatal(err)
	}
	exec(t, db, `CREATE FUNCTION public.refuse() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RAISE EXCEPTION ''% takes no rows'', TG_TABLE_NAME; END'`)
	exec(t, db, `CREATE FUNCTION public.swallow() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END'`)
	for _, table := range tables {
		for _, function := range []string{"refuse", "swallow"} {
			exec(t, db, `CREATE TRIGGER broken BEFORE INSERT ON polar.`+table+` FOR EACH ROW EXECUTE FUNCTION public.`+function+`()`)
			if err := st.Rehearse(t.Context()); err == nil || function == "refuse" && !strings.Contains(err.Error(), "takes no rows") {
				t.Errorf("%s: %s: got %v", table, function, err)
			}
			exec(t, db, `DROP TRIGGER broken ON polar.`+table)
		}
	}
	if err := st.Rehearse(t.Context()); err != nil {
		t.Error(err)
	}
	if after := counts(); after != before {
		t.Errorf("rows are %s afterwards, want %s", after, before)
	}
}
