package main

import (
	"flag"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"

	"polarmirror/internal/pgtest"
)

// TestMain leaves all out with -short: under the race detector there is nothing
// of interest in it.
func TestMain(m *testing.M) {
	flag.Parse()
	if testing.Short() {
		return
	}
	defer pgtest.Keep()()
	m.Run()
}

const documentPath = "../../docs/schema.md"

func connect(t testing.TB, db *pgtest.Database) *pgx.Conn {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), db.URL)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := conn.Close(t.Context()); err != nil && t.Context().Err() == nil {
			t.Error(err)
		}
	})
	return conn
}

func TestSchemaDocumentIsCurrent(t *testing.T) {
	t.Parallel()
	_, db := pgtest.NewStore(t)
	want, err := describe(t.Context(), connect(t, db))
	if err != nil {
		t.Fatal(err)
	}
	got, err := os.ReadFile(documentPath)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, string(got)); diff != "" {
		t.Errorf("docs/schema.md is not what the database's comments say; renew it with: %s\n%s", command, diff)
	}
}

// TestCommandNeedsNoSetUp runs what the document says renews it.
func TestCommandNeedsNoSetUp(t *testing.T) {
	t.Parallel()
	var got strings.Builder
	if err := run(t.Context(), &got); err != nil {
		t.Fatal(err)
	}
	want, err := os.ReadFile(documentPath)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got.String()); diff != "" {
		t.Errorf("%s prints something else:\n%s", command, diff)
	}
}

// TestSchemaDocumentStaysTheSameNextMonth adds a partition, as a later month
// does.
func TestSchemaDocumentStaysTheSameNextMonth(t *testing.T) {
	t.Parallel()
	_, db := pgtest.NewStore(t)
	conn := connect(t, db)
	before, err := describe(t.Context(), conn)
	if err != nil {
		t.Fatal(err)
	}
	const later = `
CREATE TABLE polar.customer_meter_history_209901 PARTITION OF polar.customer_meter_history
FOR VALUES FROM ('2099-01-01') TO ('2099-02-01')`
	if _, err := conn.Exec(t.Context(), later); err != nil {
		t.Fatal(err)
	}
	after, err := describe(t.Context(), conn)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(before, after); diff != "" {
		t.Error(diff)
	}
}

func TestWhatHasNoCommentIsNamed(t *testing.T) {
	t.Parallel()
	_, db := pgtest.NewStore(t)
	conn := connect(t, db)
	for sql, want := range map[string]string{
		`ALTER TABLE polar.meters ADD COLUMN colour text`:                        "column polar.meters.colour",
		`COMMENT ON VIEW polar.burn_rate IS NULL`:                                "view polar.burn_rate",
		`CREATE TABLE polar.things ()`:                                           "table polar.things",
		`CREATE FUNCTION polar.one() RETURNS integer LANGUAGE sql AS 'SELECT 1'`: "function polar.one",
	} {
		tx, err := conn.Begin(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if _, err := tx.Exec(t.Context(), sql); err != nil {
			t.Fatal(err)
		}
		_, err = describe(t.Context(), conn)
		if err == nil || !strings.Contains(err.Error(), want+" has no comment") {
			t.Errorf("got %v, want a word about %s", err, want)
		}
		if err := tx.Rollback(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
}
