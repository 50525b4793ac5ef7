package store_test

import (
	"context"
	"errors"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"

	"polarmirror/internal/pgtest"
	"polarmirror/internal/secret"
	"polarmirror/internal/store"
	"polarmirror/internal/storetest"
)

// history gives n organizations random runs.
func history(t testing.TB, db *pgtest.Database, n int) {
	t.Helper()
	random := rand.New(rand.NewPCG(5, 2026))
	now := time.Now().UTC().Truncate(time.Microsecond)
	for i := range n {
		id := numbered('o', 100+i)
		if _, err := db.Pool.Exec(t.Context(), `INSERT INTO polar.organizations (id, name) VALUES ($1, $2)`, id, id.String()); err != nil {
			t.Fatal(err)
		}
		for range random.IntN(8) {
			began := now.Add(-time.Duration(random.IntN(100_000)) * time.Second)
			kind := []string{"full", "incremental"}[random.IntN(2)]
			status := []string{"running", "succeeded", "failed", "abandoned"}[random.IntN(4)]
			var finished *time.Time
			var exact *bool
			var text *string
			if status != "running" {
				end := began.Add(time.Minute)
				finished = &end
			}
			if kind == "full" && status == "succeeded" {
				proven := random.IntN(2) == 0
				exact = &proven
			}
			if status == "failed" {
				why := "no"
				text = &why
			}
			const sql = `
INSERT INTO polar.sync_runs (organization_id, kind, status, started_at, finished_at, exact, error)
VALUES ($1, $2, $3, $4, $5, $6, $7)`
			if _, err := db.Pool.Exec(t.Context(), sql, id, kind, status, began, finished, exact, text); err != nil {
				t.Fatal(err)
			}
		}
	}
}

func TestFreshnessSaysWhatSyncStatusSays(t *testing.T) {
	t.Parallel()
	st, db := storetest.New(t)
	history(t, db, 150)
	type line struct {
		ID                                         uuid.UUID
		Full, FullEnd, Incremental, IncrementalEnd time.Time
		Exact                                      *bool
		Known, Failing                             bool
	}
	var got, want []line
	view, err := st.Status(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var all []store.Organization
	for _, s := range view {
		all = append(all, store.Organization{Name: s.Organization, ID: s.OrganizationID})
	}
	list, err := st.Freshness(t.Context(), all)
	if err != nil {
		t.Fatal(err)
	}
	failing, asked := 0, time.Time{}
	for _, f := range list {
		got = append(got, line{f.OrganizationID, f.LastFull.Started, f.LastFull.Finished, f.LastIncremental.Started, f.LastIncremental.Finished,
			f.LastExact, f.Age != nil, f.Failing})
		if f.Failing {
			failing++
		}
		if f.Age == nil {
			continue
		}
		newest := f.LastFull.Started
		if f.LastIncremental.Started.After(newest) {
			newest = f.LastIncremental.Started
		}
		// The time of the question is one for all.
		if at := newest.Add(*f.Age); asked.IsZero() {
			asked = at
		} else if !at.Equal(asked) {
			t.Errorf("%s: the last success began at %v, but its age is %v at %v", f.Organization, newest, *f.Age, asked)
		}
	}
	for i, s := range view {
		if s.Lag != nil && i < len(list) && list[i].Age != nil && *s.Lag > *list[i].Age {
			t.Errorf("%s: age %v, but a lag of %v was seen before", s.Organization, *list[i].Age, *s.Lag)
		}
		want = append(want, line{s.OrganizationID, s.LastFullStarted, s.LastFullFinished, s.LastIncrementalStarted, s.LastIncrementalEnded,
			s.LastFullExact, s.Lag != nil, s.LastError != ""})
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("(-polar.sync_status +Freshness):\n%s", d)
	}
	if len(list) != 150 || failing < 20 || failing > 130 {
		t.Errorf("%d organizations, %d of them failing: the test looks at too little", len(list), failing)
	}
}

func TestFreshnessFindsTheConfiguredOrganization(t *testing.T) {
	t.Parallel()
	st, db := storetest.New(t)
	now := time.Now().UTC().Truncate(time.Second)
	for i, ago := range []time.Duration{time.Hour, time.Minute, 2 * time.Hour} { // one label, three organizations
		id := numbered('o', i)
		if _, err := db.Pool.Exec(t.Context(), `INSERT INTO polar.organizations (id, name) VALUES ($1, 'default')`, id); err != nil {
			t.Fatal(err)
		}
		const sql = `
INSERT INTO polar.sync_runs (organization_id, kind, status, started_at, finished_at, exact) VALUES ($1, 'full', 'succeeded', $2, $2, true)`
		if _, err := db.Pool.Exec(t.Context(), sql, id, now.Add(-ago)); err != nil {
			t.Fatal(err)
		}
	}
	list, err := st.Freshness(t.Context(), []store.Organization{{Name: "unheard"}, {Name: "default"}, {Name: "x", ID: numbered('o', 2)}, {Name: "default", ID: numbered('o', 9)}})
	if err != nil {
		t.Fatal(err)
	}
	type line struct {
		Name    string
		ID      uuid.UUID
		Started time.Time
	}
	var got []line
	for _, f := range list {
		got = append(got, line{f.Organization, f.OrganizationID, f.LastFull.Started})
	}
	want := []line{
		{Name: "unheard"},
		{"default", numbered('o', 1), now.Add(-time.Minute)}, // mirrored last
		{"x", numbered('o', 2), now.Add(-2 * time.Hour)},     // the id counts, whatever the label
		{Name: "default"},
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
}

func TestSizesCountLiveSuspectAndRejectedRows(t *testing.T) {
	t.Parallel()
	st, db := storetest.New(t)
	s := openOn(t, st)
	run := start(t, s, store.Full)
	save(t, s, run, &store.Block{CustomerMeters: rows(sample(t, 1), sample(t, 2), sample(t, 3), sample(t, 4), sample(t, 5))})
	for _, sql := range []string{
		`UPDATE polar.customer_meters SET deleted_at = now() WHERE id = (SELECT min(id::text)::uuid FROM polar.customer_meters)`,
		`UPDATE polar.customer_meters SET out_of_scope_at = now() WHERE id = (SELECT max(id::text)::uuid FROM polar.customer_meters)`,
		`INSERT INTO polar.walk_suspects (organization_id, customer_meter_id, meter_id)
		 SELECT organization_id, id, meter_id FROM polar.customer_meters WHERE deleted_at IS NULL ORDER BY id LIMIT 2`,
		`INSERT INTO polar.rejected_rows (organization_id, run_id, page, seen_at, digest, reason, raw)
		 SELECT id, 1, 0, now(), 'x', 'no', '{}' FROM polar.organizations`,
		`INSERT INTO polar.organizations (id, name) VALUES ('00000000-0000-4000-8000-000000000009', 'empty')`,
	} {
		if _, err := db.Pool.Exec(t.Context(), sql); err != nil {
			t.Fatal(err)
		}
	}
	got, err := st.Sizes(t.Context(), []store.Organization{{Name: "empty"}, {Name: "acme", ID: organization}, {Name: "acme"}, {Name: "nobody"}})
	if err != nil {
		t.Fatal(err)
	}
	acme := store.Size{Organization: "acme", LiveRows: 3, Suspects: 2, RejectedRows: 1}
	want := []store.Size{{Organization: "empty"}, acme, acme, {Organization: "nobody"}}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
}

func TestServiceableOnlyWhenMigratedAndWritable(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t, nil, "")
	opened := func() *store.Store {
		st, err := store.Open(t.Context(), store.Options{URL: secret.New(db.URL), MaxConnections: 2})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(st.Close)
		return st
	}
	st := opened()
	var schema *store.SchemaError
	if err := st.Serviceable(t.Context()); !errors.As(err, &schema) {
		t.Errorf("empty database: %v", err)
	}
	migrateTo(t, db, mirrorOnly)
	if err := st.Serviceable(t.Context()); !errors.As(err, &schema) {
		t.Errorf("half migrated: %v", err)
	}
	if _, err := st.Migrate(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := st.Serviceable(t.Context()); err != nil {
		t.Errorf("migrated: %v", err)
	}
	if _, err := db.Pool.Exec(t.Context(), `INSERT INTO polar.goose_db_version (version_id, is_applied) VALUES (9999, true)`); err != nil {
		t.Fatal(err)
	}
	if err := st.Serviceable(t.Context()); err != nil {
		t.Errorf("migrated by a newer syncd that allows this one: %v", err)
	}
	if _, err := db.Pool.Exec(t.Context(), `ALTER DATABASE "`+db.Name+`" SET default_transaction_read_only = on`); err != nil {
		t.Fatal(err)
	}
	if err := opened().Serviceable(t.Context()); !errors.Is(err, store.ErrReadOnly) {
		t.Errorf("read-only: %v", err)
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if err := st.Serviceable(ended); !errors.Is(err, context.Canceled) {
		t.Errorf("ended context: %v", err)
	}
}

func TestPoolStatSeesWhoHoldsAConnection(t *testing.T) {
	t.Parallel()
	st, _ := storetest.New(t)
	before := st.PoolStat()
	openOn(t, st)
	after := st.PoolStat()
	if after.Acquired != before.Acquired+1 || after.Most != 8 || after.Acquires <= before.Acquires {
		t.Errorf("before %+v, after a session was opened %+v", before, after)
	}
}
