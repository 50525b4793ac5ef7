package docs

import (
	"fmt"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"polarmirror/internal/doctest"
	"polarmirror/internal/pgtest"
	"polarmirror/internal/polarsim"
	"polarmirror/internal/secret"
	"polarmirror/internal/store"
)

// TestRoleOfSyncdMigratesAndMirrors: with the rights that security.md gives, and
// without those that Postgres gives to everyone.
func TestRoleOfSyncdMigratesAndMirrors(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	database := pgx.Identifier{db.Name}.Sanitize()
	mustExec(t, db.Pool, `REVOKE ALL ON SCHEMA public FROM PUBLIC`)
	mustExec(t, db.Pool, `REVOKE TEMPORARY ON DATABASE `+database+` FROM PUBLIC`)
	sql, role := statements(t, "The role of syncd", "syncd")
	// As on a managed database, the administrator is no superuser.
	administrator := strings.Replace(role, "syncd", "administrator", 1)
	createRole(t, db, `CREATE ROLE `+administrator+` LOGIN CREATEROLE`, administrator)
	mustExec(t, db.Pool, `GRANT CREATE ON DATABASE `+database+` TO `+administrator)
	asAdministrator := connectAs(t, db.URL, administrator, testPassword)
	defer asAdministrator.Close(t.Context())
	if _, err := asAdministrator.Exec(t.Context(), sql); err != nil {
		t.Fatal(err)
	}
	createRole(t, db, ``, role)
	address, err := url.Parse(db.URL)
	if err != nil {
		t.Fatal(err)
	}
	address.User = url.UserPassword(role, testPassword)
	st, err := store.Open(t.Context(), store.Options{URL: secret.New(address.String()), MaxConnections: 6})
	if err != nil {
		t.Fatal(err)
	}
	defer st.Close()
	if _, err := st.Migrate(t.Context()); err != nil {
		t.Fatal(err)
	}
	w := envOn(t, st, db)
	for range 2 {
		if err := w.mirror().Backfill(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	var rows int
	if err := db.Pool.QueryRow(t.Context(), `SELECT count(*) FROM polar.customer_meters`).Scan(&rows); err != nil {
		t.Fatal(err)
	}
	if rows != 404 {
		t.Errorf("%d customer meters, want 404", rows)
	}
}

func TestCounterSeesUnitsAndNoNames(t *testing.T) {
	t.Parallel()
	w := newEnv(t)
	w.look(w.clock)
	sql, role := statements(w, "An analyst without personal data", "counter")
	createRole(w, w.db, sql, role)
	conn := w.connectAs(role, testPassword)
	defer conn.Close(t.Context())
	const units = `
SELECT count(*)
FROM polar.balances_at('2026-02-01 00:00+00') b
JOIN polar.customers c ON c.id = b.customer_id
JOIN polar.meters t ON t.id = b.meter_id
WHERE c.deleted_at IS NULL AND t.archived_at IS NULL`
	var rows int
	if err := conn.QueryRow(t.Context(), units).Scan(&rows); err != nil || rows == 0 {
		t.Errorf("%d balances (%v)", rows, err)
	}
	for _, sql := range []string{
		`SELECT name FROM polar.customers`,
		`SELECT raw FROM polar.customers`,
		`SELECT count(*) FROM polar.customer_meter_overview`,
		`SELECT payload FROM polar.webhook_events`,
		`SELECT raw FROM polar.rejected_rows`,
	} {
		assertForbidden(t, conn, sql)
	}
}

const nobody = "00000000-0000-0000-0000-000000000000"

// erase runs the statements under a heading of security.md for a customer.
func (w *env) erase(heading string, id uuid.UUID) {
	w.Helper()
	done := false
	for _, b := range doctest.Blocks(w, "security.md") {
		if b.Heading != heading || b.Language != "sql" {
			continue
		}
		if _, err := w.db.Pool.Exec(w.Context(), strings.ReplaceAll(b.Text, nobody, id.String())); err != nil {
			w.Fatalf("security.md:%d: %v", b.Line, err)
		}
		done = true
	}
	if !done {
		w.Fatalf("security.md has no SQL under %q", heading)
	}
}

// person returns a customer who has told much, and puts what is kept beside the
// customer into the database.
func (w *env) person() polarsim.Customer {
	w.Helper()
	for _, c := range w.sim.Customers(w.sim.Organizations()[0].ID) {
		if c.Email == nil || c.ExternalID == nil || c.Name == nil || c.BillingAddress == nil || c.TaxID == nil {
			continue
		}
		body, err := w.sim.CustomerEvent(c.ID, polarsim.CustomerStateChanged)
		if err != nil {
			w.Fatal(err)
		}
		const delivery = `
INSERT INTO polar.webhook_events (organization_id, customer_id, sent_at, webhook_id, status, payload)
VALUES ($1, $2, now(), $3, 'failed', $4)`
		const rejected = `
INSERT INTO polar.rejected_rows (organization_id, run_id, page, seen_at, digest, reason, raw)
VALUES ($1, 1, 1, now(), decode(md5($2), 'hex'), 'test', $2)`
		for _, err := range []error{
			w.exec(delivery, c.OrganizationID, c.ID, "known", body),
			w.exec(delivery, c.OrganizationID, nil, "unread", body),
			w.exec(rejected, c.OrganizationID, string(body)),
			w.exec(rejected, c.OrganizationID, *c.Email+strings.Repeat("x", 64<<10)), // its id was cut off
		} {
			if err != nil {
				w.Fatal(err)
			}
		}
		return c
	}
	w.Fatal("no customer has told enough")
	return polarsim.Customer{}
}

func (w *env) exec(sql string, args ...any) error {
	_, err := w.db.Pool.Exec(w.Context(), sql, args...)
	return err
}

// traces returns the tables that hold any of the texts, whichever the column.
func (w *env) traces(texts ...string) []string {
	w.Helper()
	var found []string
	for _, name := range w.tables() {
		sql := fmt.Sprintf(`
SELECT EXISTS (
    SELECT
    FROM polar.%[1]s r
    CROSS JOIN unnest($1::text[]) AS w (needle)
    WHERE position(w.needle IN r::text) > 0
       OR position(encode(convert_to(w.needle, 'UTF8'), 'hex') IN r::text) > 0
)`, name)
		var there bool
		if err := w.db.Pool.QueryRow(w.Context(), sql, texts).Scan(&there); err != nil {
			w.Fatal(err)
		}
		if there {
			found = append(found, name)
		}
	}
	return found
}

func TestErasedPersonLeavesNoTrace(t *testing.T) {
	t.Parallel()
	w := newEnv(t)
	w.look(w.clock)
	c := w.person()
	// The name may be another customer's too.
	told := []string{*c.Email, *c.ExternalID, c.TaxID.Number}
	if got := w.traces(told...); len(got) != 3 {
		t.Fatalf("the person is in %v, want customers, webhook_events, rejected_rows", got)
	}
	w.erase("Erasing a person", c.ID)
	if got := w.traces(told...); len(got) != 0 {
		t.Errorf("traces in %v", got)
	}
	w.look(w.clock)
	if got := w.traces(told...); len(got) != 1 || got[0] != "customers" {
		t.Errorf("Polar still shows the person, but the next full run brought it back to %v", got)
	}
	w.anonymize(c.ID)
	w.look(w.clock)
	if got := w.traces(told...); len(got) != 0 {
		t.Errorf("Polar anonymized the person, and the next full run left traces in %v", got)
	}
	w.erase("Erasing a person", c.ID)
	w.look(w.clock)
	if got := w.traces(told...); len(got) != 0 {
		t.Errorf("traces came back to %v", got)
	}
}

func TestRemovedOrganizationLeavesNoTrace(t *testing.T) {
	t.Parallel()
	w := newEnv(t)
	w.look(w.clock)
	w.person()
	removed, other := w.sim.Organizations()[0].ID.String(), w.sim.Organizations()[1].ID.String()
	before := w.traces(other)
	w.erase("Removing an organization", w.sim.Organizations()[0].ID)
	if got := w.traces(removed); len(got) != 0 {
		t.Errorf("traces in %v", got)
	}
	if got := w.traces(other); len(got) == 0 || !slices.Equal(got, before) {
		t.Errorf("another organization was in %v and is in %v", before, got)
	}
}

func TestErasedUsageBeginsAnewIfPolarListsIt(t *testing.T) {
	t.Parallel()
	w := newEnv(t)
	w.look(w.clock)
	c := w.person()
	w.anonymize(c.ID)
	w.erase("Erasing a person", c.ID)
	w.erase("Erasing the usage as well", c.ID)
	if got := w.traces(c.ID.String()); len(got) != 0 {
		t.Errorf("traces in %v", got)
	}
	w.clock = w.clock.AddDate(0, 0, 1)
	w.look(w.clock)
	const anew = `
SELECT
	count(*) > 0
	AND bool_and(m.first_seen_at = $2)
	AND bool_and(c.email IS NULL)
	AND bool_and((SELECT count(*) FROM polar.customer_meter_history h WHERE h.customer_meter_id = m.id) = 1)
FROM polar.customer_meters m
JOIN polar.customers c ON c.id = m.customer_id
WHERE c.id = $1`
	var begins bool
	if err := w.db.Pool.QueryRow(t.Context(), anew, c.ID, w.clock).Scan(&begins); err != nil {
		t.Fatal(err)
	}
	if !begins {
		t.Error("the rows that Polar lists are not there as new and anonymous ones")
	}
}

// anonymize deletes a customer at Polar as its dashboard can: softly, with all
// that is personal taken out.
func (w *env) anonymize(id uuid.UUID) {
	w.Helper()
	if _, err := w.sim.DeleteCustomer(id); err != nil {
		w.Fatal(err)
	}
	_, err := w.sim.EditCustomer(id, func(c *polarsim.Customer) {
		c.Name, c.Email, c.ExternalID, c.BillingName = nil, nil, nil, nil
		c.BillingAddress, c.TaxID, c.AvatarURL, c.Locale = nil, nil, nil, nil
		c.Metadata = "{}"
	})
	if err != nil {
		w.Fatal(err)
	}
}
