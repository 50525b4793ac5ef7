package store_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"

	"polarmirror/internal/pgtest"
	"polarmirror/internal/secret"
	"polarmirror/internal/store"
)

// TestOrgStatusFollowsTheOrderOfTheRuns compares with what is told while the runs
// are made, one after the other: their dates decide nothing.
func TestOrgStatusFollowsTheOrderOfTheRuns(t *testing.T) {
	t.Parallel()
	st, db := pgtest.NewStore(t)
	random := rand.New(rand.NewPCG(5, 2026))
	var want []store.OrgStatus
	failing, undated, last := 0, 0, int64(0)
	for i := range 150 {
		want = append(want, randomStatus(t, db, random, numbered('o', 100+i), &last))
	}
	got, err := st.OrgStatus(t.Context(), store.OrgStatusQuery{})
	if err != nil {
		t.Fatal(err)
	}
	for i := range got {
		s := &got[i]
		if s.Failing() {
			failing++
		}
		if s.Undated() {
			undated++
		}
		if (s.Age == nil) != s.DataFrom.IsZero() || s.Age != nil && *s.Age < 0 {
			t.Errorf("%s: age %v of data from %v", s.Organization, s.Age, s.DataFrom)
		}
		s.Age = nil
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
	if failing < 20 || failing > 130 || undated < 10 {
		t.Errorf("%d organizations are failing and %d undated: the test looks at too little", failing, undated)
	}
}

// randomStatus gives an organization random runs, some of them dated later than
// now, and returns how it stands.
func randomStatus(t testing.TB, db *pgtest.Database, random *rand.Rand, id uuid.UUID, last *int64) store.OrgStatus {
	t.Helper()
	exec(t, db, `INSERT INTO polar.organizations (id, name) VALUES ($1, $2)`, id, id.String())
	now := time.Now().UTC().Truncate(time.Microsecond)
	known := func(at time.Time) time.Time { // of a run that is not dated near now
		if at.After(now) {
			return time.Time{}
		}
		return at
	}
	want := store.OrgStatus{OrganizationID: id, Organization: id.String()}
	failures := map[store.Kind]store.Failure{}
	newest := map[store.Kind]int64{}
	for range random.IntN(9) {
		*last++
		n := *last
		began := now.Add(-time.Duration(random.IntN(100_000)) * time.Second)
		if random.IntN(3) == 0 {
			began = now.Add(time.Duration(10+random.IntN(300)) * time.Minute)
		}
		end := began.Add(time.Minute)
		kind := []store.Kind{store.Full, store.Incremental, store.Repair, store.Refresh}[random.IntN(4)]
		covers := kind == store.Full || kind == store.Incremental
		status := []string{"running", "succeeded", "failed", "abandoned"}[random.IntN(4)]
		run := store.LastRun{ID: n, Started: known(began), Finished: known(end)}
		var finished *time.Time
		var exact *bool
		var method store.Method
		var why *string
		if status != "running" {
			finished = &end
		}
		switch status {
		case "running":
			want.Running, want.RunningSince = kind, run.Started
		case "succeeded":
			if proven := random.IntN(2) == 0; covers {
				exact = &proven
			}
			if exact != nil && *exact {
				method = []store.Method{store.Walk, store.Sweep}[n%2]
			}
			switch kind {
			case store.Full:
				want.LastFull, want.FullExact, want.FullMethod, want.FullFailures, want.FullFailedAt = run, exact, method, 0, time.Time{}
				clear(failures)
			case store.Incremental:
				want.LastIncremental = run
			}
			if exact != nil && *exact {
				want.LastExact = run
			}
			delete(failures, kind)
			if covers {
				want.DataFrom = run.Started
			}
		case "failed":
			text := fmt.Sprint("run ", n)
			why = &text
			if kind == store.Full {
				want.FullFailures++
				if run.Finished.After(want.FullFailedAt) {
					want.FullFailedAt = run.Finished
				}
			}
			failures[kind], newest[kind] = store.Failure{Kind: kind, At: run.Finished, Message: text}, n
		}
		exec(t, db, `
INSERT INTO polar.sync_runs (id, organization_id, kind, status, started_at, finished_at, exact, method, error)
OVERRIDING SYSTEM VALUE VALUES ($1, $2, $3, $4, $5, $6, $7, nullif($8, ''), $9)`, n, id, kind, status, began, finished, exact, method, why)
	}
	for kind, f := range failures {
		if want.Failed.Kind == "" || newest[kind] > newest[want.Failed.Kind] {
			want.Failed = f
		}
	}
	return want
}
func TestOrgStatusFindsTheConfiguredOrganization(t *testing.T) {
	t.Parallel()
	st, db := pgtest.NewStore(t)
	now := time.Now().UTC().Truncate(time.Second)
	for i, ago := range []time.Duration{2 * time.Hour, time.Minute, time.Hour} { // one label, three organizations
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
	list, err := st.OrgStatus(t.Context(), store.OrgStatusQuery{Organizations: []store.Organization{
		{Name: "unheard"}, {Name: "default"}, {Name: "x", ID: numbered('o', 1)}, {Name: "default", ID: numbered('o', 9)},
	}})
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
		{"default", numbered('o', 2), now.Add(-time.Hour)}, // mirrored last
		{"x", numbered('o', 1), now.Add(-time.Minute)},     // the id counts, whatever the label
		{Name: "default"},
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}

	for _, c := range []struct {
		asked []store.Organization
		want  []uuid.UUID
	}{
		{nil, []uuid.UUID{numbered('o', 2)}}, // one of the label
		{[]store.Organization{{Name: "default", ID: numbered('o', 0)}}, []uuid.UUID{numbered('o', 0)}},
		{[]store.Organization{{Name: "x", ID: numbered('o', 1)}}, []uuid.UUID{numbered('o', 1), numbered('o', 2)}},
		{[]store.Organization{{Name: "x", ID: numbered('o', 2)}}, []uuid.UUID{numbered('o', 2), numbered('o', 1)}},
	} {
		list, err := st.OrgStatus(t.Context(), store.OrgStatusQuery{Organizations: c.asked, Others: true})
		if err != nil {
			t.Fatal(err)
		}
		var got []uuid.UUID
		for _, s := range list {
			got = append(got, s.OrganizationID)
		}
		if d := cmp.Diff(c.want, got); d != "" {
			t.Errorf("%v and others (-want +got):\n%s", c.asked, d)
		}
	}
}

func TestOrgStatusTellsTheFailuresSinceTheLastSuccess(t *testing.T) {
	t.Parallel()
	st, _ := pgtest.NewStore(t)
	s := openOn(t, st)
	run := func(kind store.Kind, err error) {
		t.Helper()
		if err := s.FinishRun(t.Context(), start(t, s, kind), store.Outcome{Err: err}); err != nil {
			t.Fatal(err)
		}
	}
	no := errors.New("no")
	run(store.Full, no)
	run(store.Full, nil)
	run(store.Incremental, nil)
	run(store.Full, no)
	run(store.Full, no)
	got := status(t, st)
	if got.FullFailures != 2 || got.FullFailedAt.IsZero() || got.LastFull.Duration() == 0 ||
		!got.LastIncremental.Started.After(got.LastFull.Started) || !got.FullFailedAt.After(got.LastIncremental.Started) ||
		!got.DataFrom.Equal(got.LastIncremental.Started) {
		t.Errorf("status %+v", got)
	}
}

// TestOrgStatusReadsFewRunsHoweverManyThereAre gives four organizations 400 days
// of runs each that are far from what is looked for, and looks at how much of the
// table is read.
func TestOrgStatusReadsFewRunsHoweverManyThereAre(t *testing.T) {
	t.Parallel()
	large(t)
	st, db := pgtest.NewStore(t)
	exec(t, db, `INSERT INTO polar.organizations (id, name) SELECT gen_random_uuid(), 'org ' || n FROM generate_series(1, 4) n`)
	exec(t, db, `
INSERT INTO polar.sync_runs (organization_id, kind, status, started_at, finished_at, exact, error)
SELECT
    o.id,
    CASE WHEN n % 60 = 0 AND o.name <> 'org 4' THEN 'full' ELSE 'incremental' END,
    CASE WHEN o.name = 'org 2' AND n > 1000 OR o.name = 'org 3' THEN 'failed' ELSE 'succeeded' END,
    now() - (40001 - n) * interval '14 minutes',
    now() - (40001 - n) * interval '14 minutes' + interval '1 second',
    CASE WHEN n % 60 = 0 THEN n < 1000 END,
    'no'
  FROM generate_series(1, 40000) n
 CROSS JOIN polar.organizations o`)
	for _, when := range []string{"never analyzed", "analyzed"} {
		var text []byte
		if err := db.Pool.QueryRow(t.Context(), `EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) `+store.OrgStatusSQL, false, nil).Scan(&text); err != nil {
			t.Fatal(err)
		}
		var plans []struct {
			Plan struct {
				Hit  int `json:"Shared Hit Blocks"`
				Read int `json:"Shared Read Blocks"`
			}
		}
		if err := json.Unmarshal(text, &plans); err != nil {
			t.Fatal(err)
		}
		if got := plans[0].Plan.Hit + plans[0].Plan.Read; got > 4*80 {
			t.Errorf("%s: %d pages were read for 4 organizations, want at most 80 for each:\n%s", when, got, text)
		}
		exec(t, db, `ANALYZE polar.sync_runs, polar.organizations`)
	}
	if list, err := st.OrgStatus(t.Context(), store.OrgStatusQuery{}); err != nil || len(list) != 4 || list[1].FullFailures != 10 {
		t.Errorf("status %+v (%v)", list, err)
	}
}

func TestOrgStatusCountsLiveSuspectAndRejectedRows(t *testing.T) {
	t.Parallel()
	st, db := pgtest.NewStore(t)
	s := openOn(t, st)
	run := start(t, s, store.Full)
	save(t, s, run, &store.Block{CustomerMeters: rows(sample(t, 1), sample(t, 2), sample(t, 3), sample(t, 4), sample(t, 5))})
	for _, sql := range []string{
		`UPDATE polar.customer_meters SET deleted_at = now() WHERE id = (SELECT min(id::text)::uuid FROM polar.customer_meters)`,
		`UPDATE polar.customer_meters SET out_of_scope_at = now() WHERE id = (SELECT max(id::text)::uuid FROM polar.customer_meters)`,
		`INSERT INTO polar.suspects (organization_id, customer_meter_id, meter_id)
		 SELECT organization_id, id, meter_id FROM polar.customer_meters WHERE deleted_at IS NULL ORDER BY id LIMIT 2`,
		`INSERT INTO polar.suspects (organization_id, customer_meter_id, meter_id, answer)
		 SELECT organization_id, id, meter_id, 'unlisted' FROM polar.customer_meters WHERE deleted_at IS NULL ORDER BY id OFFSET 2 LIMIT 1`,
		`INSERT INTO polar.rejected_rows (organization_id, run_id, page, seen_at, digest, reason, raw)
		 SELECT id, 1, 0, now(), 'x', 'no', '{}' FROM polar.organizations`,
		`INSERT INTO polar.organizations (id, name) VALUES ('00000000-0000-4000-8000-000000000009', 'empty')`,
	} {
		if _, err := db.Pool.Exec(t.Context(), sql); err != nil {
			t.Fatal(err)
		}
	}
	list, err := st.OrgStatus(t.Context(), store.OrgStatusQuery{
		Organizations: []store.Organization{{Name: "empty"}, {Name: "acme", ID: organization}, {Name: "acme"}, {Name: "nobody"}},
		CountRows:     true,
	})
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, s := range list {
		got = append(got, fmt.Sprintf("%s: %d live, %d suspects, %d rejected", s.Organization, s.LiveRows, s.Suspects, s.RejectedRows))
	}
	acme := "acme: 3 live, 2 suspects, 1 rejected"
	want := []string{"empty: 0 live, 0 suspects, 0 rejected", acme, acme, "nobody: 0 live, 0 suspects, 0 rejected"}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
}

func TestServiceableOnlyWhenMigratedAndWritable(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
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
	if _, err := st.Migrate(t.Context()); err != nil {
		t.Fatal(err)
	}
	exec(t, db, `UPDATE polar.goose_db_version SET version_id = -version_id WHERE version_id = (SELECT max(version_id) FROM polar.goose_db_version)`)
	if err := st.Serviceable(t.Context()); !errors.As(err, &schema) {
		t.Errorf("half migrated: %v", err)
	}
	exec(t, db, `UPDATE polar.goose_db_version SET version_id = -version_id WHERE version_id < 0`)
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
	st, _ := pgtest.NewStore(t)
	before := st.PoolStat()
	openOn(t, st)
	after := st.PoolStat()
	if after.AcquiredConns() != before.AcquiredConns()+1 || after.MaxConns() != 8 || after.AcquireCount() <= before.AcquireCount() {
		t.Errorf("%d connections were in use, and %d of %d after a session was opened", before.AcquiredConns(), after.AcquiredConns(), after.MaxConns())
	}
}
