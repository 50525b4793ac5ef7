package store_test

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"polarmirror/internal/store"
	"polarmirror/internal/storetest"
)

// minute is a slot.
func minute(n int) time.Time { return epoch.Add(time.Duration(n) * time.Minute) }

func TestSlotIsAskedForWithoutTheLockOnceAnswered(t *testing.T) {
	t.Parallel()
	st, db := storetest.New(t)
	session := openOn(t, st)
	run, err := session.StartRun(t.Context(), store.Incremental, minute(1))
	if err != nil {
		t.Fatal(err)
	}
	other := storetest.Open(t, db)
	if _, err := other.AcquireSlot(t.Context(), organization, store.Incremental, minute(1)); !errors.Is(err, store.ErrSlotTaken) {
		t.Errorf("a slot under way gave %v", err)
	}
	if _, err := other.AcquireSlot(t.Context(), organization, store.Incremental, minute(2)); !errors.Is(err, store.ErrBusy) {
		t.Errorf("the next slot of a busy organization gave %v", err)
	}
	if err := session.FinishRun(t.Context(), run, store.Outcome{}); err != nil {
		t.Fatal(err)
	}
	session.Release()
	if _, err := other.AcquireSlot(t.Context(), organization, store.Incremental, minute(1)); !errors.Is(err, store.ErrSlotTaken) {
		t.Errorf("an answered slot gave %v", err)
	}
	next, err := other.AcquireSlot(t.Context(), organization, store.Incremental, minute(2))
	if err != nil {
		t.Fatal(err)
	}
	defer next.Release()
	if got, err := next.Show(t.Context(), "enable_seqscan"); got != "off" || err != nil {
		t.Errorf("the session plans with enable_seqscan %s (%v)", got, err)
	}
}

// TestSlotAnsweredByAClockThatWasAheadIsFree: the slot of such a run comes once
// more, and has to be answered then, once.
func TestSlotAnsweredByAClockThatWasAheadIsFree(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		sql  string // what makes the first run's time doubtful
		free bool
	}{
		"nothing":                           {`SELECT 1`, false},
		"it began long before its slot":     {`UPDATE polar.sync_runs SET started_at = slot - interval '90 minutes'`, true},
		"it began a little before its slot": {`UPDATE polar.sync_runs SET started_at = slot - interval '30 seconds'`, false},
		"a later run is dated later than now": {`
INSERT INTO polar.sync_runs (organization_id, kind, status, started_at, finished_at)
SELECT id, 'incremental', 'succeeded', now() + interval '1 hour', now() + interval '1 hour' FROM polar.organizations`, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			st, db := storetest.New(t)
			session := openOn(t, st)
			answer := func() error {
				run, err := session.StartRun(t.Context(), store.Incremental, minute(1))
				if err != nil {
					return err
				}
				return session.FinishRun(t.Context(), run, store.Outcome{NullRows: -1})
			}
			taken := func() bool {
				other, err := storetest.Open(t, db).AcquireSlot(t.Context(), organization, store.Incremental, minute(1))
				if err == nil {
					other.Release()
				}
				return errors.Is(err, store.ErrSlotTaken)
			}
			if err := answer(); err != nil {
				t.Fatal(err)
			}
			exec(t, db, c.sql)
			if got := taken(); got == c.free {
				t.Errorf("taken: %v", got)
			}
			if err := answer(); (err == nil) != c.free || !c.free && !errors.Is(err, store.ErrSlotTaken) {
				t.Errorf("answered once more: %v", err)
			}
			if !taken() {
				t.Error("it is free although it was just answered")
			}
			if err := answer(); !errors.Is(err, store.ErrSlotTaken) {
				t.Errorf("answered a third time: %v", err)
			}
		})
	}
}

func TestLosersOfALockGiveTheirConnectionsBackAtOnce(t *testing.T) {
	t.Parallel()
	st, db := storetest.New(t)
	openOn(t, st)
	one, err := store.Open(t.Context(), store.Options{URL: storeURL(db), MaxConnections: 1})
	if err != nil {
		t.Fatal(err)
	}
	defer one.Close()
	for range 20 {
		if _, err := one.AcquireSlot(t.Context(), organization, store.Incremental, minute(1)); !errors.Is(err, store.ErrBusy) {
			t.Fatal(err)
		}
	}
	if got := lookup(t, db, `SELECT count(*)::text FROM pg_locks WHERE locktype = 'advisory' AND database = (SELECT oid FROM pg_database WHERE datname = current_database())`); got != "1" {
		t.Errorf("%s locks are held, want the holder's", got)
	}
}

func TestSkippedSlotsSayWhy(t *testing.T) {
	t.Parallel()
	s, db := open(t)
	run := start(t, s, store.Full)
	lookup(t, db, `UPDATE polar.sync_runs SET started_at = $2 WHERE id = $1 RETURNING 'x'`, run.ID, minute(3).Add(-time.Second))
	for _, step := range []struct {
		skip   store.Skip
		reason string
		begins bool
	}{
		{store.Skip{Kind: store.Incremental, First: minute(1), Last: minute(2), Slots: 2},
			"no syncd came to it: none ran, or all were busy with other organizations", true},
		{store.Skip{Kind: store.Incremental, First: minute(3), Last: minute(5), Slots: 3, After: minute(2)},
			fmt.Sprintf("full run %d was under way", run.ID), true},
		{store.Skip{Kind: store.Incremental, First: minute(6), Last: minute(6), Slots: 1, After: minute(5), Reason: "no floor"}, "no floor", true},
		{store.Skip{Kind: store.Incremental, First: minute(7), Last: minute(7), Slots: 1, After: minute(6), Reason: "no floor"}, "no floor", false},
		{store.Skip{Kind: store.Incremental, First: minute(9), Last: minute(9), Slots: 1, After: minute(8), Reason: "no floor"}, "no floor", true},
		{store.Skip{Kind: store.Full, First: minute(9), Last: minute(9), Slots: 1, Reason: "too soon"}, "too soon", true},
	} {
		reason, begins, err := s.Skip(t.Context(), step.skip)
		if err != nil || reason != step.reason || begins != step.begins {
			t.Errorf("skip %+v: reason %q, begins %v (%v)", step.skip, reason, begins, err)
		}
	}
	got := lookup(t, db, `
SELECT string_agg(concat_ws(' ', kind, extract(minute FROM first_slot), extract(minute FROM last_slot), slots), '; ' ORDER BY kind, first_slot)
  FROM polar.skipped_slots`)
	if diff := cmp.Diff("full 9 9 1; incremental 1 2 2; incremental 3 5 3; incremental 6 7 2; incremental 9 9 1", got); diff != "" {
		t.Errorf("skipped slots (-want +got):\n%s", diff)
	}
}

func TestLastSlotIsTheNewestAnsweredOrSkipped(t *testing.T) {
	t.Parallel()
	s, db := open(t)
	last := func(kind store.Kind) time.Time {
		t.Helper()
		at, registered, err := s.LastSlot(t.Context(), kind)
		if err != nil || registered.IsZero() {
			t.Fatalf("registered %v (%v)", registered, err)
		}
		return at
	}
	if got := last(store.Incremental); !got.IsZero() {
		t.Errorf("before any, %v", got)
	}
	start(t, s, store.Incremental) // a run that no schedule asked for
	if _, err := s.StartRun(t.Context(), store.Incremental, minute(4)); err != nil {
		t.Fatal(err)
	}
	if got := last(store.Incremental); !got.Equal(minute(4)) {
		t.Errorf("after a run for minute 4, %v", got)
	}
	if _, _, err := s.Skip(t.Context(), store.Skip{Kind: store.Incremental, First: minute(5), Last: minute(6), Slots: 2}); err != nil {
		t.Fatal(err)
	}
	if got := last(store.Incremental); !got.Equal(minute(6)) {
		t.Errorf("after minutes 5 and 6 were skipped, %v", got)
	}
	if got := last(store.Full); !got.IsZero() {
		t.Errorf("of the other kind, %v", got)
	}
	lookup(t, db, `UPDATE polar.organizations SET created_at = now() - interval '2 hours' RETURNING 'x'`)
	if _, registered, err := s.LastSlot(t.Context(), store.Full); err != nil || !registered.IsZero() {
		t.Errorf("an organization of two hours is new since %v (%v)", registered, err)
	}
}
