package mirror

import (
	"testing"
	"time"
)

func TestFullRunWaitsUntilTwiceTheDurationOfTheLastHasPassed(t *testing.T) {
	t.Parallel()
	w := small(t, 150)
	w.backfill()
	s := w.scheduler(Schedules{})
	for i, tt := range []struct {
		began, took string
		runs        int // afterwards
	}{
		{"19 minutes", "10 minutes", 1},
		{"21 minutes", "10 minutes", 2},
	} {
		if _, err := w.db.Pool.Exec(t.Context(), `
UPDATE polar.sync_runs
   SET started_at = now() - $1::text::interval,
       finished_at = now() - $1::text::interval + $2::text::interval`, tt.began, tt.took); err != nil {
			t.Fatal(err)
		}
		s.fullDue, s.fullSlot = true, time.Now().Truncate(time.Minute).Add(time.Duration(i)*time.Minute)
		s.runDue(t.Context())
		if got := len(w.runs()); got != tt.runs || s.fullDue {
			t.Errorf("%s after the last one, which took %s: %d runs, due: %v", tt.began, tt.took, got, s.fullDue)
		}
	}
}
