package main

import (
	"encoding/hex"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"polarmirror/internal/polarsim"
	"polarmirror/internal/web"
)

// private is in everything personal that the simulated Polar has.
const private = "zq7private"

const excludeAll = "privacy: {exclude: [email, name, billing_name, billing_address, tax_id, avatar_url, metadata]}"

// TestExcludedFieldsAreNowhere: with every field excluded no personal text is in the
// database, the logs, the page, the metrics or what commands print, whatever Polar
// sends. Without, it is, and switching it on removes it.
func TestExcludedFieldsAreNowhere(t *testing.T) {
	t.Parallel()
	f := newPrivateFixture(t)
	excluding, keeping := f.privateConfig(t, excludeAll), f.privateConfig(t, "")

	first := call(t, nil, "--backfill", "--config", excluding)
	if found := f.tablesWithPrivate(t); first.code != exitDone || len(found) > 0 || strings.Contains(first.stdout+first.stderr, private) {
		t.Errorf("excluded from the start: exit code %d, in %v, or shown: %s", first.code, found, first.stderr)
	}

	shown := f.useEverything(t, keeping, []string{"--backfill"})
	if found := strings.Join(f.tablesWithPrivate(t), " "); !strings.Contains(shown, private) || found != "customers rejected_rows webhook_events" {
		t.Fatalf("without exclusion it is in %s, and is not shown, so this test shows nothing", found)
	}

	f.leavePending(t)
	r := call(t, nil, "get", f.sim.Listed(f.orgs[0].ID)[9].ID.String(), "--config", excluding)
	if found := f.tablesWithPrivate(t); r.code != exitDone || len(found) > 0 || strings.Contains(r.stdout+r.stderr, private) {
		t.Errorf("just switched on: exit code %d, still in %v: %s%s", r.code, found, r.stdout, r.stderr)
	}
	assertContains(t, r.stdout, "Mirror and Polar agree.")
	shown = f.useEverything(t, excluding, []string{"refresh", *f.customer(t).ExternalID}, []string{"verify", "--json"}, []string{"status"})
	if found := f.tablesWithPrivate(t); len(found) > 0 || strings.Contains(shown, private) {
		t.Errorf("switched on: still in %v, or shown: %s", found, around(shown))
	}
}

// unusable is how many of the listed rows can't be used, the first ones.
const unusable = 4

// newPrivateFixture has customers that told everything, and rows that can't be used.
func newPrivateFixture(t testing.TB) *fixture {
	t.Helper()
	f := newFixture(t, 60)
	for i, c := range f.sim.Customers(f.orgs[0].ID) {
		_, err := f.sim.EditCustomer(c.ID, func(c *polarsim.Customer) {
			text := func(field string) *string { return new(private + "-" + field + "-" + strconv.Itoa(i)) }
			c.Email, c.Name, c.BillingName, c.AvatarURL = text("email"), text("name"), text("billing"), text("avatar")
			c.BillingAddress = &polarsim.Address{Line1: text("line1"), Line2: text("line2"), PostalCode: text("code"), City: text("city"), State: text("state"), Country: "AT"}
			c.TaxID = &polarsim.TaxID{Number: *text("tax"), Format: *text("format")}
			c.Metadata = polarsim.Literal(`{"` + *text("key") + `":"` + *text("value") + `"}`)
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	rows := f.sim.Listed(f.orgs[0].ID)
	for i, edits := range [unusable][]string{
		{`"balance":`, `"units":`},
		{`"metadata":{`, `"created_at":"","metadata":{`},
		{`"customer":{`, `"customer":[{`, `},"meter":`, `}],"meter":`},
		{rows[3].JSON, `"` + private + `"`},
	} {
		raw := strings.NewReplacer(edits...).Replace(rows[i].JSON)
		if _, err := f.sim.SetRaw(rows[i].ID, raw); err != nil {
			t.Fatal(err)
		}
	}
	return f
}

func (f *fixture) privateConfig(t testing.TB, privacy string) string {
	t.Helper()
	return f.write(t, f.withSecret("webhook_secret: polar_whs_"+canary, "log: {level: debug}",
		`schedule: {incremental: "@every 1s", full: "@every 2s"}`, privacy))
}

// customer is one whose rows can be used and who has an external id.
func (f *fixture) customer(t testing.TB) polarsim.Customer {
	t.Helper()
	without := map[uuid.UUID]bool{}
	for _, r := range f.sim.Listed(f.orgs[0].ID)[:unusable] {
		without[r.CustomerID] = true
	}
	for _, c := range f.sim.Customers(f.orgs[0].ID) {
		if c.ExternalID != nil && !without[c.ID] {
			return c
		}
	}
	t.Fatal("no such customer")
	return polarsim.Customer{}
}

// useEverything returns all that these commands and the service show, logs included.
func (f *fixture) useEverything(t testing.TB, config string, commands ...[]string) string {
	t.Helper()
	var shown strings.Builder
	customer, row := f.customer(t), f.sim.Listed(f.orgs[0].ID)[9]
	for _, args := range commands {
		r := call(t, nil, append(args, "--config", config)...)
		if r.code != exitDone {
			t.Errorf("syncd %v: exit code %d: %s", args, r.code, r.stderr)
		}
		shown.WriteString(r.stdout + r.stderr)
	}
	var since time.Time
	if err := f.db.Pool.QueryRow(t.Context(), `SELECT now()`).Scan(&since); err != nil {
		t.Fatal(err)
	}
	s := serve(t, "--config", config)
	eventually(t, "the database", func() bool {
		code, _ := s.get("/readyz", "")
		return code == http.StatusOK
	})
	state, err := f.sim.CustomerEvent(customer.ID, polarsim.CustomerStateChanged)
	if err != nil {
		t.Fatal(err)
	}
	for _, body := range []string{
		string(state),
		strings.Replace(string(state), `"active_meters":[`, `"active_meters":[{"id":1},`, 1),
		string(state[:len(state)-1]),
		strings.Replace(string(state), `"id":"`+customer.ID.String(), `"id":"none`, 1),
		`{"type":"customer.updated","data":"` + private + `"}`,
		`{"type":"order.paid","data":{"customer":{"email":"` + private + `","email":"` + private + `"}}}`,
		private,
	} {
		f.deliver(t, s, body)
	}
	changed, err := f.sim.Consume(row.ID, "12345.5")
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, "a full and an incremental run, the change and the webhooks", func() bool {
		const sql = `
SELECT (SELECT count(DISTINCT kind) FROM polar.sync_runs WHERE started_at > $1 AND status = 'succeeded' AND kind IN ('full', 'incremental')) = 2
   AND (SELECT count(*) FILTER (WHERE status = 'applied') = 1 AND count(*) FILTER (WHERE status = 'pending') = 0 AND count(*) >= 7
          FROM polar.webhook_events WHERE received_at > $1)
   AND (SELECT consumed_units = $3::text::numeric FROM polar.customer_meters WHERE id = $2)`
		var done *bool
		err := f.db.Pool.QueryRow(t.Context(), sql, since, row.ID, changed.Units.Consumed).Scan(&done)
		return err == nil && done != nil && *done
	})
	for _, path := range []string{
		"/", "/organizations/acme", "/customers", "/customers?q=" + *customer.ExternalID, "/customers/" + customer.ID.String(), "/meters/" + row.MeterID.String(),
		"/runs", "/metrics", "/healthz/data",
	} {
		_, body := s.get(path, "")
		if path == "/customers" && !strings.Contains(body, *customer.ExternalID) {
			t.Errorf("a customer is not shown by its external id, %s", *customer.ExternalID)
		}
		shown.WriteString(body)
	}
	r := s.stop()
	return shown.String() + r.stdout + r.stderr
}

// deliver sends a webhook as Polar does.
func (f *fixture) deliver(t testing.TB, s *service, body string) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, s.url+web.WebhookPath+"acme", strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	id := uuid.NewString()
	r.Header.Set("webhook-id", id)
	r.Header.Set("webhook-timestamp", strconv.FormatInt(time.Now().Unix(), 10))
	r.Header.Set("webhook-signature", polarsim.SignWebhook("polar_whs_"+canary, id, time.Now(), []byte(body)))
	response, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	if _ = response.Body.Close(); response.StatusCode != http.StatusAccepted {
		t.Fatalf("status %d for %s", response.StatusCode, body)
	}
}

// leavePending leaves a delivery that is not applied yet.
func (f *fixture) leavePending(t testing.TB) {
	t.Helper()
	const sql = `
INSERT INTO polar.webhook_events (organization_id, customer_id, sent_at, next_attempt_at, webhook_id, type, status, payload)
VALUES ($1, $2, now(), now(), $3, 'customer.updated', 'pending', $4)`
	if _, err := f.db.Pool.Exec(t.Context(), sql, f.orgs[0].ID, f.customer(t).ID, uuid.NewString(), []byte(private)); err != nil {
		t.Fatal(err)
	}
}

// tablesWithPrivate returns the tables that have something personal in a dump.
func (f *fixture) tablesWithPrivate(t testing.TB) (found []string) {
	t.Helper()
	const tables = `
SELECT relname
  FROM pg_class
 WHERE relnamespace = 'polar'::regnamespace AND relkind IN ('r', 'p') AND NOT relispartition
 ORDER BY relname`
	rows, err := f.db.Pool.Query(t.Context(), tables)
	if err != nil {
		t.Fatal(err)
	}
	names, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		var dump string
		if err := f.db.Pool.QueryRow(t.Context(), fmt.Sprintf(`SELECT coalesce(string_agg(r::text, E'\n'), '') FROM polar.%s r`, name)).Scan(&dump); err != nil {
			t.Fatal(err)
		}
		if strings.Contains(dump, private) || strings.Contains(dump, hex.EncodeToString([]byte(private))) {
			found = append(found, name)
		}
	}
	return found
}

// around returns where something personal is shown.
func around(shown string) string {
	at := strings.Index(shown, private)
	if at < 0 {
		return ""
	}
	return shown[max(0, at-200):min(len(shown), at+200)]
}
