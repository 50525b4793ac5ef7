package docs

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"

	"polarmirror/internal/pgtest"
)

// TestSchemaDocumentIsCurrent compares schema.md with the comments in the database.
func TestSchemaDocumentIsCurrent(t *testing.T) {
	t.Parallel()
	_, db := pgtest.NewStore(t)
	want, err := describeSchema(t.Context(), connect(t, db))
	if err != nil {
		t.Fatal(err)
	}
	if *update {
		if err := os.WriteFile("schema.md", []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile("schema.md")
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, string(got)); diff != "" {
		t.Errorf("schema.md is not what the database's comments say; renew it with: go test ./docs -run Schema -update\n%s", diff)
	}
}

// TestSchemaDocumentStaysTheSameNextMonth adds a partition, as a later month
// does.
func TestSchemaDocumentStaysTheSameNextMonth(t *testing.T) {
	t.Parallel()
	_, db := pgtest.NewStore(t)
	conn := connect(t, db)
	before, err := describeSchema(t.Context(), conn)
	if err != nil {
		t.Fatal(err)
	}
	const later = `
CREATE TABLE polar.customer_meter_history_209901 PARTITION OF polar.customer_meter_history
FOR VALUES FROM ('2099-01-01') TO ('2099-02-01')`
	if _, err := conn.Exec(t.Context(), later); err != nil {
		t.Fatal(err)
	}
	after, err := describeSchema(t.Context(), conn)
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
		_, err = describeSchema(t.Context(), conn)
		if err == nil || !strings.Contains(err.Error(), want+" has no comment") {
			t.Errorf("got %v, want a word about %s", err, want)
		}
		if err := tx.Rollback(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
}

func connect(t testing.TB, db *pgtest.Database) *pgx.Conn {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), db.URL)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := conn.Close(context.WithoutCancel(t.Context())); err != nil {
			t.Error(err)
		}
	})
	return conn
}

// describeSchema returns the document about schema polar of the database at conn:
// the same bytes on every version of Postgres and in every month. An object
// without a comment is an error.
func describeSchema(ctx context.Context, conn *pgx.Conn) (string, error) {
	s, err := readSchema(ctx, conn)
	if err != nil {
		return "", err
	}
	if err := s.uncommented(); err != nil {
		return "", err
	}
	return s.markdown(), nil
}

// A schema is what the catalog says of schema polar. Partitions are left out:
// which there are depends on the month, and all are read through their table.
type schema struct {
	relations []relation // by name
	columns   []column   // by relation, in their order
	keys      []constraint
	indexes   []index
	functions []function
	links     []link
}

type relation struct {
	Name, Kind, Comment string // Kind is "table" or "view"
	PartitionedBy       string // such as "RANGE (observed_at)"; "" if it is not
}

type column struct {
	Relation, Name, Type, Comment string
	Required                      bool // NOT NULL
	Primary                       bool // part of the primary key
	Default                       string
}

type constraint struct {
	Relation, Name, Definition string
}

type index struct {
	Relation, Name, Definition, Comment string
}

type function struct {
	Name, Arguments, Result, Comment string
}

// A link is a column that refers to another table, whether or not a foreign key
// checks it.
type link struct {
	Child, Column, Parent string
	Checked               bool // by a foreign key
	Optional              bool // the column may be null
	Single                bool // at most one row of the child for one of the parent
}

const relationsSQL = `
SELECT
	c.relname AS name,
	CASE c.relkind WHEN 'v' THEN 'view' ELSE 'table' END AS kind,
	coalesce(obj_description(c.oid, 'pg_class'), '') AS comment,
	coalesce(pg_get_partkeydef(c.oid), '') AS partitioned_by
FROM pg_class c
WHERE c.relnamespace = 'polar'::regnamespace
	AND c.relkind IN ('r', 'p', 'v')
	AND NOT c.relispartition
ORDER BY c.relname COLLATE "C"`

const columnsSQL = `
SELECT
	c.relname AS relation,
	a.attname AS name,
	format_type(a.atttypid, a.atttypmod) AS type,
	coalesce(col_description(c.oid, a.attnum), '') AS comment,
	a.attnotnull AS required,
	coalesce(a.attnum = ANY (p.conkey), false) AS primary,
	CASE
		WHEN a.attidentity <> '' THEN 'identity'
		ELSE coalesce(pg_get_expr(d.adbin, d.adrelid), '')
	END AS default
FROM pg_class c
JOIN pg_attribute a ON a.attrelid = c.oid
LEFT JOIN pg_attrdef d ON d.adrelid = c.oid AND d.adnum = a.attnum
LEFT JOIN pg_constraint p ON p.conrelid = c.oid AND p.contype = 'p'
WHERE c.relnamespace = 'polar'::regnamespace
	AND c.relkind IN ('r', 'p', 'v')
	AND NOT c.relispartition
	AND a.attnum > 0
	AND NOT a.attisdropped
ORDER BY c.relname COLLATE "C", a.attnum`

// Postgres 18 lists NOT NULL among the constraints, older ones do not: those
// stand with the columns.
const constraintsSQL = `
SELECT
	c.relname AS relation,
	k.conname AS name,
	pg_get_constraintdef(k.oid) AS definition
FROM pg_constraint k
JOIN pg_class c ON c.oid = k.conrelid
WHERE c.relnamespace = 'polar'::regnamespace
	AND NOT c.relispartition
	AND k.contype IN ('c', 'f', 'u')
ORDER BY c.relname COLLATE "C", k.contype DESC, k.conname COLLATE "C"`

const indexesSQL = `
SELECT
	c.relname AS relation,
	i.relname AS name,
	regexp_replace(pg_get_indexdef(i.oid), '^.* USING ', '') AS definition,
	coalesce(obj_description(i.oid, 'pg_class'), '') AS comment
FROM pg_index x
JOIN pg_class i ON i.oid = x.indexrelid
JOIN pg_class c ON c.oid = x.indrelid
WHERE c.relnamespace = 'polar'::regnamespace
	AND NOT c.relispartition
	AND NOT EXISTS (SELECT FROM pg_constraint k WHERE k.conindid = i.oid AND k.contype IN ('p', 'u'))
ORDER BY c.relname COLLATE "C", i.relname COLLATE "C"`

const functionsSQL = `
SELECT
	f.proname AS name,
	pg_get_function_arguments(f.oid) AS arguments,
	pg_get_function_result(f.oid) AS result,
	coalesce(obj_description(f.oid, 'pg_proc'), '') AS comment
FROM pg_proc f
WHERE f.pronamespace = 'polar'::regnamespace
ORDER BY f.proname COLLATE "C", arguments`

// A column customer_id refers to table customers by name alone if no foreign
// key says so.
const linksSQL = `
SELECT
	child.relname AS child,
	a.attname AS column,
	parent.relname AS parent,
	k.oid IS NOT NULL AS checked,
	NOT a.attnotnull AS optional,
	EXISTS (
		SELECT
		FROM pg_constraint u
		WHERE u.conrelid = child.oid AND u.contype IN ('p', 'u') AND u.conkey = ARRAY[a.attnum]
	) AS single
FROM pg_class child
JOIN pg_attribute a ON a.attrelid = child.oid AND a.attnum > 0 AND NOT a.attisdropped
LEFT JOIN pg_constraint k ON k.conrelid = child.oid AND k.contype = 'f' AND k.conkey = ARRAY[a.attnum]
JOIN pg_class parent ON parent.oid = coalesce(
	nullif(k.confrelid, 0),
	CASE WHEN a.attname LIKE '%\_id' THEN to_regclass('polar.' || quote_ident(left(a.attname, -3) || 's')) END)
WHERE child.relnamespace = 'polar'::regnamespace
	AND child.relkind IN ('r', 'p')
	AND NOT child.relispartition
ORDER BY parent.relname COLLATE "C", child.relname COLLATE "C", a.attnum`

func readSchema(ctx context.Context, conn *pgx.Conn) (*schema, error) {
	var s schema
	err := errors.Join(
		list(ctx, conn, relationsSQL, &s.relations),
		list(ctx, conn, columnsSQL, &s.columns),
		list(ctx, conn, constraintsSQL, &s.keys),
		list(ctx, conn, indexesSQL, &s.indexes),
		list(ctx, conn, functionsSQL, &s.functions),
		list(ctx, conn, linksSQL, &s.links))
	if err != nil {
		return nil, fmt.Errorf("read the catalog: %w", err)
	}
	return &s, nil
}

func list[T any](ctx context.Context, conn *pgx.Conn, sql string, into *[]T) error {
	rows, err := conn.Query(ctx, sql)
	if err != nil {
		return err
	}
	*into, err = pgx.CollectRows(rows, pgx.RowToStructByName[T])
	return err
}

// uncommented names every relation, column and function that lacks a comment.
func (s *schema) uncommented() error {
	var errs []error
	missing := func(comment, what, name string) {
		if comment == "" {
			errs = append(errs, fmt.Errorf("%s polar.%s has no comment: add COMMENT ON to its migration", what, name))
		}
	}
	for _, r := range s.relations {
		missing(r.Comment, r.Kind, r.Name)
	}
	for _, c := range s.columns {
		missing(c.Comment, "column", c.Relation+"."+c.Name)
	}
	for _, f := range s.functions {
		missing(f.Comment, "function", f.Name)
	}
	return errors.Join(errs...)
}
