package main

import (
	"fmt"
	"net/url"
	"strings"
	"testing"

	"github.com/google/uuid"
)

// TestBackfillNeedsNoMoreThanItsSchema runs as a role that may do nothing but
// create a schema in the database, and as one that may not even do that but was
// given the schema.
func TestBackfillNeedsNoMoreThanItsSchema(t *testing.T) {
	t.Parallel()
	for name, grant := range map[string]string{
		"may create the schema": `GRANT CREATE ON DATABASE %[2]s TO %[1]s`,
		"was given the schema":  `CREATE SCHEMA polar AUTHORIZATION %[1]s`,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFixture(t, 150)
			role := "role_" + strings.ReplaceAll(uuid.NewString(), "-", "")
			for _, sql := range []string{
				`CREATE ROLE %[1]s LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE PASSWORD 'pw'`,
				`REVOKE ALL ON DATABASE %[2]s FROM PUBLIC`,
				`GRANT CONNECT ON DATABASE %[2]s TO %[1]s`,
				grant,
			} {
				if _, err := f.db.Pool.Exec(t.Context(), fmt.Sprintf(sql, role, f.db.Name)); err != nil {
					t.Fatal(err)
				}
			}
			address, err := url.Parse(f.db.URL)
			if err != nil {
				t.Fatal(err)
			}
			address.User = url.UserPassword(role, "pw")
			config := f.write(t, strings.Replace(f.yaml(nil), f.db.URL, address.String(), 1))
			for range 2 {
				if r := call(t, nil, "--config", config, "--backfill"); r.code != exitDone {
					t.Fatalf("backfill as an ordinary role: %+v", r)
				}
			}
			if got := f.rows(t, "acme"); got != 150 {
				t.Errorf("%d rows, want 150", got)
			}
		})
	}
}

// TestBackfillMindsRowLevelSecurityThatBindsTheOwner: Postgres refuses to COPY into
// such tables, and takes the same rows in an INSERT.
func TestBackfillMindsRowLevelSecurityThatBindsTheOwner(t *testing.T) {
	t.Parallel()
	f := newFixture(t, 300)
	role := "role_" + strings.ReplaceAll(uuid.NewString(), "-", "")
	address, err := url.Parse(f.db.URL)
	if err != nil {
		t.Fatal(err)
	}
	address.User = url.UserPassword(role, "pw")
	config := f.write(t, strings.Replace(f.yaml(nil), f.db.URL, address.String(), 1))
	exec := func(statements ...string) {
		for _, sql := range statements {
			if _, err := f.db.Pool.Exec(t.Context(), strings.ReplaceAll(sql, "ROLE_NAME", role)); err != nil {
				t.Fatal(err)
			}
		}
	}
	exec(`CREATE ROLE ROLE_NAME LOGIN PASSWORD 'pw'`, `CREATE SCHEMA polar AUTHORIZATION ROLE_NAME`)
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
}

func TestBackfillWithoutTheRightNamesTheStatementThatGivesIt(t *testing.T) {
	t.Parallel()
	f := newFixture(t, 10)
	role := "role_" + strings.ReplaceAll(uuid.NewString(), "-", "")
	for _, sql := range []string{
		`CREATE ROLE %[1]s LOGIN PASSWORD 'pw'`,
		`REVOKE CREATE ON DATABASE %[2]s FROM PUBLIC`,
	} {
		if _, err := f.db.Pool.Exec(t.Context(), fmt.Sprintf(sql, role, f.db.Name)); err != nil {
			t.Fatal(err)
		}
	}
	address, err := url.Parse(f.db.URL)
	if err != nil {
		t.Fatal(err)
	}
	address.User = url.UserPassword(role, "pw")
	r := call(t, nil, "--config", f.write(t, strings.Replace(f.yaml(nil), f.db.URL, address.String(), 1)), "--backfill")
	if r.code != exitDatabase {
		t.Errorf("exit code %d, want %d", r.code, exitDatabase)
	}
	assertContains(t, only(t, r.plainLines()), "CREATE SCHEMA polar AUTHORIZATION")
}
