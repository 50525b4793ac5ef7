package store_test

import (
	"testing"

	"polarmirror/internal/pgtest"
)

// TestExcludingRemovesWhatIsStoredOnceAndNothingElse, and switched off and on again
// it removes what came meanwhile.
func TestExcludingRemovesWhatIsStoredOnceAndNothingElse(t *testing.T) {
	t.Parallel()
	st, db := pgtest.NewStore(t)
	exec(t, db, `
INSERT INTO polar.organizations (id, name) VALUES ('00000000-0000-4000-8000-00000000000a', 'acme')`)
	fill := func() {
		exec(t, db, `
INSERT INTO polar.customers (id, organization_id, created_at, digest, email_verified, type, external_id, email, name, metadata, raw)
VALUES ('00000000-0000-4000-8000-000000000001', '00000000-0000-4000-8000-00000000000a', now(), 'x', true, 'individual', 'e', 'ada@x', 'Ada', '{}',
        '{"email": "ada@x", "name": "Ada", "tax_id": ["1"], "locale": "fr"}')
ON CONFLICT (id) DO UPDATE SET digest = 'x', email = excluded.email, name = excluded.name, raw = excluded.raw`)
		exec(t, db, `
INSERT INTO polar.rejected_rows (organization_id, run_id, page, seen_at, digest, reason, raw)
VALUES ('00000000-0000-4000-8000-00000000000a', 1, 0, now(), 'x', 'customer.metadata.ada@x: beyond', 'ada@x')`)
		for _, status := range []string{"pending", "failed"} {
			exec(t, db, `
INSERT INTO polar.webhook_events (organization_id, webhook_id, customer_id, sent_at, next_attempt_at, status, error, payload)
VALUES ('00000000-0000-4000-8000-00000000000a', '`+status+`', '00000000-0000-4000-8000-000000000001', now(), now(), '`+status+`', 'status 502, body begins "ada@x"', 'ada@x')
ON CONFLICT (organization_id, webhook_id) DO UPDATE SET status = excluded.status, next_attempt_at = now(), payload = excluded.payload, error = excluded.error`)
		}
		exec(t, db, `
INSERT INTO polar.sync_runs (organization_id, kind, status, started_at, finished_at, error)
VALUES ('00000000-0000-4000-8000-00000000000a', 'full', 'failed', now(), now(), 'status 500, body begins "ada@x"; ask them')`)
	}
	fill()
	exclude := func(fields ...string) string {
		t.Helper()
		const versions = `
SELECT concat_ws(' ', (SELECT xmin FROM polar.customers), (SELECT xmin FROM polar.rejected_rows), (SELECT string_agg(xmin::text, ' ' ORDER BY webhook_id) FROM polar.webhook_events),
    (SELECT string_agg(xmin::text, ' ' ORDER BY id) FROM polar.sync_runs))`
		before := lookup(t, db, versions)
		added, err := st.Exclude(t.Context(), fields)
		if err != nil {
			t.Fatal(err)
		}
		if after := lookup(t, db, versions); len(added) == 0 && after != before {
			t.Errorf("excluding %v, none of them new, has written rows", fields)
		}
		return lookup(t, db, `
SELECT concat_ws(' ', c.digest::text, c.email, c.name, c.raw, c.external_id, (SELECT string_agg(r.reason || ' ' || r.raw, ' ') FROM polar.rejected_rows r),
    (SELECT string_agg(concat_ws(' ', w.status, w.error, convert_from(w.payload, 'UTF8')), ' ' ORDER BY w.webhook_id) FROM polar.webhook_events w),
    (SELECT string_agg(s.error, ' ' ORDER BY s.id) FROM polar.sync_runs s))
  FROM polar.customers c`)
	}
	const whole = `\x78 ada@x Ada {"name": "Ada", "email": "ada@x", "locale": "fr", "tax_id": ["1"]} e customer.metadata.ada@x: beyond ada@x ` +
		`failed status 502, body begins "ada@x" ada@x pending status 502, body begins "ada@x" ada@x status 500, body begins "ada@x"; ask them`
	if got := exclude(); got != whole {
		t.Errorf("nothing excluded: %s\nwant %s", got, whole)
	}
	const given = `failed privacy.exclude was switched on before it was applied; the next full run brings what it reported `
	const gone = given + given + `status 500`
	if got, want := exclude("email", "tax_id"), `\x Ada {"name": "Ada", "locale": "fr"} e `+gone; got != want {
		t.Errorf("excluded: %s\nwant %s", got, want)
	}
	if got, want := exclude("tax_id", "email"), `\x Ada {"name": "Ada", "locale": "fr"} e `+gone; got != want {
		t.Errorf("excluded again: %s\nwant %s", got, want)
	}
	exclude("tax_id")
	fill()
	if got, want := exclude("email", "tax_id", "name"), `\x {"locale": "fr"} e `+gone+" status 500"; got != want {
		t.Errorf("switched on again: %s\nwant %s", got, want)
	}
}
