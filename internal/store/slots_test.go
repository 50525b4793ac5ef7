package store_test

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"polarmirror/internal/pgtest"
	"polarmirror/internal/store"
)

// minute is a slot.
func minute(n int) time.Time { return epoch.Add(time.Duration(n) * time.Minute) }

func TestSlotIsAskedForWithoutTheLockOnceAnswered(t *testing.T) {
	t.Parallel()
	st, _ := pgtest.NewStore(t)
	session := openOn(t, st)
	run, err := session.StartRun(t.Context(), store.Incremental, minute(1))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := st.AcquireSlot(t.Context(), organization, store.Incremental, minute(1)); !errors.Is(err, store.ErrSlotTaken) {
		t.Errorf("a slot under way gave %v", err)
	}
	if _, err := st.AcquireSlot(t.Context(), organization, store.Incremental, minute(2)); !errors.Is(err, store.ErrBusy) {
		t.Errorf("the next slot of a busy organization gave %v", err)
	}
	if err := session.FinishRun(t.Context(), run, store.Outcome{}); err != nil {
		t.Fatal(err)
	}
	session.Release()
	if _, err := st.AcquireSlot(t.Context(), organization, store.Incremental, minute(1)); !errors.Is(err, store.ErrSlotTaken) {
		t.Errorf("an answered slot gave %v", err)
	}
	next, err := st.AcquireSlot(t.Context(), organization, store.Incremental, minute(2))
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
			st, db := pgtest.NewStore(t)
			session := openOn(t, st)
			answer := func() error {
				run, err := session.StartRun(t.Context(), store.Incremental, minute(1))
				if err != nil {
					return err
				}
				return session.FinishRun(t.Context(), run, store.Outcome{})
			}
			taken := func() bool {
				other, err := st.AcquireSlot(t.Context(), organization, store.Incremental, minute(1))
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
	st, db := pgtest.NewStore(t)
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
	for _, tt := range []struct {
		first, last int
		want        string
	}{
		{1, 2, "no syncd was running, or each was busy with other organizations or logged a reason of its own"},
		{2, 3, fmt.Sprintf("full run %d was under way for a part of that time", run.ID)},
		{3, 5, fmt.Sprintf("full run %d was under way", run.ID)},
	} {
		if got, err := s.WhySkipped(t.Context(), minute(tt.first), minute(tt.last)); err != nil || got != tt.want {
			t.Errorf("minutes %d to %d: %q (%v), want %q", tt.first, tt.last, got, err, tt.want)
		}
	}
}

func TestLastSlotIsTheNewestAnswered(t *testing.T) {
	t.Parallel()
	s, _ := open(t)
	last := func(kind store.Kind) time.Time {
		t.Helper()
		at, err := s.LastSlot(t.Context(), kind)
		if err != nil {
			t.Fatal(err)
		}
		return at
	}
	start(t, s, store.Incremental) // a run that no schedule asked for
	if got := last(store.Incremental); !got.IsZero() {
		t.Errorf("before any, %v", got)
	}
	if _, err := s.StartRun(t.Context(), store.Incremental, minute(4)); err != nil {
		t.Fatal(err)
	}
	if got := last(store.Incremental); !got.Equal(minute(4)) {
		t.Errorf("after a run for minute 4, %v", got)
	}
	if got := last(store.Full); !got.IsZero() {
		t.Errorf("of the other kind, %v", got)
	}
}
