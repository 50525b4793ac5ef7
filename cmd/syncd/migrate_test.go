package main

import (
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// sorted compares lists of strings without regard to order.
func sorted() cmp.Option {
	return cmp.Transformer("sorted", func(in []string) []string { return slices.Sorted(slices.Values(in)) })
}

func TestMigrateUpAppliesWhatStatusCallsPending(t *testing.T) {
	t.Parallel()
	f := newUnmigrated(t, 1)
	before := call(t, nil, "migrate", "status", "--config", f.config)
	if before.code != exitDone {
		t.Fatalf("exit code %d, stderr:\n%s", before.code, before.stderr)
	}
	pending := strings.Count(before.stdout, "│ pending")
	if pending == 0 {
		t.Fatalf("nothing pending in:\n%s", before.stdout)
	}
	assertContains(t, before.stdout, "00001_organizations.sql", "pending: run syncd migrate up.")

	for _, sql := range []string{
		`CREATE FUNCTION refuse() RETURNS event_trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'in the way' USING DETAIL = 'the view app.mine'; END $$`,
		`CREATE EVENT TRIGGER refuse ON ddl_command_start WHEN TAG IN ('CREATE TABLE') EXECUTE FUNCTION refuse()`,
	} {
		if _, err := f.db.Pool.Exec(t.Context(), sql); err != nil {
			t.Fatal(err)
		}
	}
	stopped := call(t, nil, "migrate", "up", "--config", f.config)
	if stopped.code != exitDatabase {
		t.Errorf("a migration that fails: exit code %d", stopped.code)
	}
	assertContains(t, only(t, stopped.plainLines()), "migration stopped", "in the way", "the view app.mine")
	if _, err := f.db.Pool.Exec(t.Context(), `DROP EVENT TRIGGER refuse`); err != nil {
		t.Fatal(err)
	}

	up := call(t, nil, "migrate", "up", "--config", f.config)
	if up.code != exitDone {
		t.Fatalf("exit code %d, stderr:\n%s", up.code, up.stderr)
	}
	assertContains(t, up.stdout, "the schema is up to date.")

	after := call(t, nil, "migrate", "status", "--config", f.config)
	if strings.Contains(after.stdout, "pending") {
		t.Errorf("still pending:\n%s", after.stdout)
	}
	again := call(t, nil, "migrate", "up", "--config", f.config)
	assertContains(t, again.stdout, "nothing to apply")
}

func TestTooNewSchemaIsExitCode3(t *testing.T) {
	t.Parallel()
	f := newFixture(t, 1)
	if _, err := f.db.Pool.Exec(t.Context(), `UPDATE polar.schema_compatibility SET oldest_migration = 9999`); err != nil {
		t.Fatal(err)
	}
	for _, line := range []string{"", "migrate up"} {
		r := call(t, nil, append(strings.Fields(line), "--config", f.config)...)
		if r.code != exitDatabase {
			t.Errorf("%s: exit code %d", line, r.code)
		}
		assertContains(t, only(t, r.plainLines()), "install a newer syncd")
	}
}

// TestSchemaFromBeforeTheFirstReleaseIsExitCode3: what it says of itself, that
// nothing is pending or that nothing was mirrored, is not repeated.
func TestSchemaFromBeforeTheFirstReleaseIsExitCode3(t *testing.T) {
	t.Parallel()
	f := newUnmigrated(t, 1)
	if _, err := f.db.Pool.Exec(t.Context(), `CREATE SCHEMA polar; CREATE TABLE polar.walk_cursors ()`); err != nil {
		t.Fatal(err)
	}
	for _, line := range []string{"--backfill", "status", "migrate up", "migrate status", "config check"} {
		r := call(t, nil, append(strings.Fields(line), "--config", f.config)...)
		if r.code != exitDatabase || !strings.Contains(r.stdout+r.stderr, "DROP SCHEMA polar CASCADE") {
			t.Errorf("%s: exit code %d, without the cure:\n%s%s", line, r.code, r.stdout, r.stderr)
		}
	}
}
