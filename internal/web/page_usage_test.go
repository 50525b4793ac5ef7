package web

import (
	"context"
	"strconv"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/uuid"

	"polarmirror/internal/recent"
	"polarmirror/internal/store"
)

// TestUsageIsWhatTheHistorySays lets weeks pass: whenever somebody looks, the days
// are as the history has them, and a day that no longer changes is read once.
func TestUsageIsWhatTheHistorySays(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		organization, meter := uuid.New(), uuid.New()
		history, reads := map[time.Time]int{}, map[time.Time]int{}
		count := func(_ context.Context, d dayOf) (dayUsage, error) {
			reads[d.at]++
			return dayUsage{meter: store.DailyUsage{Consumed: strconv.Itoa(history[d.at])}}, nil
		}
		p := &Page{
			usage:     cache[dayOf, dayUsage]{recent.New(recent.Options{Keep: time.Minute}, count), time.Hour},
			pastUsage: cache[dayOf, dayUsage]{recent.New(recent.Options{Keep: maxDays * day}, count), time.Hour},
		}
		const days = 10
		look := func() {
			for i := range days {
				at := midnight(time.Now()).AddDate(0, 0, -i)
				got, err := p.usageOn(t.Context(), dayOf{organization, at})
				if want := strconv.Itoa(history[at]); got[meter].Consumed != want || err != nil {
					t.Fatalf("%s: %s has %q (%v), want %q", time.Now(), at.Format(time.DateOnly), got[meter].Consumed, err, want)
				}
			}
		}
		for range 6 * 24 * 20 {
			time.Sleep(10 * time.Minute)
			now := time.Now()
			history[midnight(now)]++
			if now.Sub(midnight(now)) < lateCommits/2 { // what a transaction commits late
				history[midnight(now).AddDate(0, 0, -1)]++
			}
			look()
		}
		clear(reads)
		look()
		if len(reads) > 2 {
			t.Errorf("%d days were read again, want those that may have changed", len(reads))
		}
	})
}
