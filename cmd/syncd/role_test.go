package main

import (
	"net/url"
	"strings"
	"testing"

	"github.com/google/uuid"
)

// asRole makes a role that may do nothing but connect to the database, and returns the
// configuration with it and a function that runs statements in which ROLE_NAME and
// DATABASE_NAME stand for the names.
func (f *fixture) asRole(t testing.TB) (config string, exec func(statements ...string)) {
	t.Helper()
	role := "role_" + strings.ReplaceAll(uuid.NewString(), "-", "")
	exec = func(statements ...string) {
		t.Helper()
		for _, sql := range statements {
			if _, err := f.db.Pool.Exec(t.Context(), strings.NewReplacer("ROLE_NAME", role, "DATABASE_NAME", f.db.Name).Replace(sql)); err != nil {
				t.Fatal(err)
			}
		}
	}
	exec(
		`CREATE ROLE ROLE_NAME LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE PASSWORD 'pw'`,
		`REVOKE ALL ON DATABASE DATABASE_NAME FROM PUBLIC`,
		`GRANT CONNECT ON DATABASE DATABASE_NAME TO ROLE_NAME`,
	)
	address, err := url.Parse(f.db.URL)
	if err != nil {
		t.Fatal(err)
	}
	address.User = url.UserPassword(role, "pw")
	return f.write(t, strings.Replace(f.yaml(nil), f.db.URL, address.String(), 1)), exec
}

// TestBackfillNeedsNoMoreThanToCreateItsSchema, and names a statement that an
// administrator can paste.
func TestBackfillNeedsNoMoreThanToCreateItsSchema(t *testing.T) {
	t.Parallel()
	f := newUnmigrated(t, 150)
	config, exec := f.asRole(t)
	r := call(t, nil, "--config", config, "--backfill")
	if r.code != exitDatabase {
		t.Errorf("exit code %d, want %d", r.code, exitDatabase)
	}
	_, statement, _ := strings.Cut(only(t, r.plainLines()), "let an administrator run ")
	exec(statement, `DROP SCHEMA polar`, `GRANT CREATE ON DATABASE DATABASE_NAME TO ROLE_NAME`)
	if r := call(t, nil, "--config", config, "--backfill"); r.code != exitDone {
		t.Fatalf("backfill as an ordinary role: %+v", r)
	}
	if got := f.rows(t, "acme"); got != 150 {
		t.Errorf("%d rows, want 150", got)
	}
}

// TestRoleThatMayNotUseTheSchemaLearnsThat, and not that migrations are pending: it
// cannot see which are.
func TestRoleThatMayNotUseTheSchemaLearnsThat(t *testing.T) {
	t.Parallel()
	f := newFixture(t, 1)
	config, _ := f.asRole(t)
	for _, line := range []string{"", "--backfill", "status", "migrate up", "migrate status", "config check"} {
		r := call(t, nil, append(strings.Fields(line), "--config", config)...)
		if r.code != exitDatabase || !strings.Contains(r.stdout+r.stderr, "not own it") || strings.Contains(r.stdout+r.stderr, "pending") {
			t.Errorf("%q: exit code %d:\n%s%s", line, r.code, r.stdout, r.stderr)
		}
	}
}

// TestBackfillMindsRowLevelSecurityThatBindsTheOwner, a role that was given the schema
// and may do nothing else: Postgres refuses to COPY into such tables, and takes the
// same rows in an INSERT.
func TestBackfillMindsRowLevelSecurityThatBindsTheOwner(t *testing.T) {
	t.Parallel()
	f := newUnmigrated(t, 300)
	config, exec := f.asRole(t)
	exec(`CREATE SCHEMA polar AUTHORIZATION ROLE_NAME`)
	if r := call(t, nil, "--config", config, "migrate", "up"); r.code != exitDone {
		t.Fatalf("migrate up: %+v", r)
	}
	for _, table := range []string{"customers", "customer_meters", "customer_meter_history"} {
		exec(
			`ALTER TABLE polar.`+table+` ENABLE ROW LEVEL SECURITY`,
			`ALTER TABLE polar.`+table+` FORCE ROW LEVEL SECURITY`,
			`CREATE POLICY everything ON polar.`+table+` USING (true)`,
		)
	}
	if r := call(t, nil, "--config", config, "--backfill"); r.code != exitDone {
		t.Fatalf("backfill: %+v", r)
	}
	if got := f.rows(t, "acme"); got != 300 {
		t.Errorf("%d rows, want 300", got)
	}

	exec(`ALTER TABLE polar.customers OWNER TO CURRENT_USER`)
	r := call(t, nil, "--config", config, "--backfill")
	if r.code != exitDatabase {
		t.Errorf("a table of another role: exit code %d", r.code)
	}
	assertContains(t, only(t, r.plainLines()), "permission denied for table customers", "let an administrator give it and what is in it to this role")
}
