package store_test

import (
	"errors"
	"fmt"
	"testing"
	"time"

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

func TestLastRunsTellsSuccessesAndTheFailuresSince(t *testing.T) {
	t.Parallel()
	st, _ := storetest.New(t)
	s := openOn(t, st)
	run := func(kind store.Kind, err error) {
		t.Helper()
		if err := s.FinishRun(t.Context(), start(t, s, kind), store.Outcome{Err: err, NullRows: -1}); err != nil {
			t.Fatal(err)
		}
	}
	no := errors.New("no")
	run(store.Full, no)
	run(store.Full, nil)
	run(store.Incremental, nil)
	run(store.Full, no)
	run(store.Full, no)
	byName, err := st.LastRuns(t.Context(), numbered('o', 0), "nobody")
	if err != nil || byName != (store.LastRuns{}) {
		t.Errorf("of an unknown organization: %+v (%v)", byName, err)
	}
	got, err := st.LastRuns(t.Context(), organization, "another label")
	if err != nil {
		t.Fatal(err)
	}
	if got.Failures != 2 || got.FailedAt.IsZero() || got.FullFinished.Before(got.FullStarted) || got.FullStarted.IsZero() ||
		!got.IncrementalStarted.After(got.FullStarted) || !got.FailedAt.After(got.IncrementalStarted) {
		t.Errorf("last runs %+v", got)
	}
	if byName, err = st.LastRuns(t.Context(), [16]byte{}, "acme"); err != nil || byName != got {
		t.Errorf("by label %+v (%v), by id %+v", byName, err, got)
	}
}
