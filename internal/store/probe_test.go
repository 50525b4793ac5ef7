package store_test

import (
	"context"
	"encoding/json"
	"net/url"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"polarmirror/internal/pgtest"
	"polarmirror/internal/store"
)

// TestFullDiskIsFoundBeforeAWebhookIsLost: the disk is full to whoever writes to
// the webhooks' table.
func TestFullDiskIsFoundBeforeAWebhookIsLost(t *testing.T) {
	t.Parallel()
	st, db := inbox(t)
	exec := func(sql string) {
		t.Helper()
		if _, err := db.Pool.Exec(t.Context(), sql); err != nil {
			t.Fatal(err)
		}
	}
	exec(`
CREATE FUNCTION public.full_disk() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE 'could not extend file "base/5/16591": No space left on device' USING ERRCODE = 'disk_full', HINT = 'Check free disk space.';
END $$;
CREATE TRIGGER full_disk BEFORE INSERT ON polar.webhook_events FOR EACH STATEMENT EXECUTE FUNCTION public.full_disk()`)
	const cure = "; free space on the disk that holds the database"
	_, err := st.SaveDelivery(t.Context(), delivery(1, 1))
	if err == nil || strings.Count(err.Error(), cure) != 1 || !strings.HasSuffix(err.Error(), cure) {
		t.Errorf("a delivery: %v", err)
	}
	err = st.Serviceable(t.Context())
	if want := `could not extend file …: No space left on device (SQLSTATE 53100)` + cure; store.Cause(err) != want {
		t.Errorf("the probe: %v, shown as %q, want %q", err, store.Cause(err), want)
	}
	exec(`DROP TRIGGER full_disk ON polar.webhook_events`)
	if err := st.Serviceable(t.Context()); err != nil {
		t.Errorf("with space again: %v", err)
	}
}

// TestProbeWritesToTheDiskAndLeavesNothing: blocks of a temporary file, which a
// full disk refuses, and a record in the log, which the commit waits for.
func TestProbeWritesToTheDiskAndLeavesNothing(t *testing.T) {
	t.Parallel()
	st, db := pgtest.NewStore(t)
	settings, write := store.ProbeStatements()
	var text string
	err := pgx.BeginFunc(t.Context(), db.Pool, func(tx pgx.Tx) error {
		if _, err := tx.Exec(t.Context(), settings); err != nil {
			return err
		}
		return tx.QueryRow(t.Context(), `EXPLAIN (ANALYZE, BUFFERS, WAL, TIMING OFF, FORMAT JSON) `+write).Scan(&text)
	})
	if err != nil {
		t.Fatal(err)
	}
	var plans []struct {
		Plan struct {
			Temporary int `json:"Temp Written Blocks"`
			Records   int `json:"WAL Records"`
		}
	}
	if err := json.Unmarshal([]byte(text), &plans); err != nil {
		t.Fatal(err)
	}
	if got := plans[0].Plan; got.Temporary < 8 || got.Records != 1 {
		t.Errorf("%+v, want blocks of a temporary file and one record", got)
	}
	for range 3 {
		if err := st.Serviceable(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if got := lookup(t, db, `SELECT pg_relation_size('polar.webhook_events')`); got != "0" {
		t.Errorf("webhook_events has grown to %s bytes", got)
	}
}

// TestCauseIsWhatTheServerSaidWithoutNames: a role that may not log in any more.
func TestCauseIsWhatTheServerSaidWithoutNames(t *testing.T) {
	t.Parallel()
	_, db := pgtest.NewStore(t)
	role := db.Name + "_role"
	quoted := pgx.Identifier{role}.Sanitize()
	for _, sql := range []string{
		`CREATE ROLE ` + quoted + ` LOGIN SUPERUSER PASSWORD 'pw'`,
		`ALTER ROLE ` + quoted + ` NOLOGIN`,
	} {
		if _, err := db.Pool.Exec(t.Context(), sql); err != nil {
			t.Fatal(err)
		}
	}
	t.Cleanup(func() {
		if _, err := db.Pool.Exec(context.WithoutCancel(t.Context()), `DROP ROLE `+quoted); err != nil {
			t.Error(err)
		}
	})
	address, err := url.Parse(db.URL)
	if err != nil {
		t.Fatal(err)
	}
	address.User = url.UserPassword(role, "pw")
	_, err = pgx.Connect(t.Context(), address.String())
	if got, want := store.Cause(err), `role … is not permitted to log in (SQLSTATE 28000)`; got != want {
		t.Errorf("%q, want %q", got, want)
	}
	_, err = pgx.Connect(t.Context(), "postgres://u@127.0.0.1:1/db")
	if got := store.Cause(err); !strings.Contains(got, "refused") || strings.Contains(got, "127.0.0.1") {
		t.Errorf("nobody listens: %q of %v", got, err)
	}
}
