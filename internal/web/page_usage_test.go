package web

import (
	"errors"
	"math/rand/v2"
	"strconv"
	"testing"
	"time"

	"github.com/google/uuid"

	"polarmirror/internal/store"
)

// TestUsageCacheSaysWhatTheHistorySays lets months pass over a cache: whatever
// changed, however seldom it is looked at and however slow or broken the database
// is, it says what the history says, and reads settled days once.
func TestUsageCacheSaysWhatTheHistorySays(t *testing.T) {
	t.Parallel()
	for seed := range uint64(10) {
		chance := rand.New(rand.NewPCG(seed, 1))
		organization, meter := uuid.New(), uuid.New()
		history := map[time.Time]int{}
		var c usageCache
		now := time.Date(2026, 5, 1, 7, 0, 0, 0, time.UTC)
		for range 200 {
			wait := time.Duration(chance.Int64N(int64(30 * time.Hour)))
			if chance.IntN(20) == 0 {
				wait *= 90 // nobody looks for months
			}
			for end := now.Add(wait); now.Before(end); now = now.Add(time.Hour) {
				history[midnight(now)]++
			}
			reads := map[time.Time]int{}
			broken := chance.IntN(4)
			read := func(from, to time.Time) (list []store.DailyUsage, slow bool, err error) {
				if broken--; broken == 0 {
					return nil, true, errors.New("canceled")
				}
				for at := from; at.Before(to); at = at.AddDate(0, 0, 1) {
					reads[at]++
					if n := history[at]; n > 0 {
						list = append(list, store.DailyUsage{MeterID: meter, Day: at, Consumed: strconv.Itoa(n)})
					}
				}
				return list, chance.IntN(2) == 0, nil
			}
			for c.count(organization, now, read) != nil {
			}
			for i := range maxDays {
				at := midnight(now).AddDate(0, 0, -i)
				want := ""
				if n := history[at]; n > 0 {
					want = strconv.Itoa(n)
				}
				day := c.day(organization, at)
				if got := day.meters[meter].Consumed; got != want || day.meters == nil {
					t.Fatalf("seed %d, %s: %s has %q, want %q", seed, now, at.Format(time.DateOnly), got, want)
				}
				// What a transaction commits shortly after its day has ended.
				if i == 1 && now.Sub(midnight(now)) < settleTime/2 {
					history[at]++
				}
			}
			clear(reads)
			broken = 0
			if err := c.count(organization, now, read); err != nil {
				t.Fatal(err)
			}
			if len(reads) > 3 {
				t.Fatalf("seed %d: %d days were read again, want only those that may have changed", seed, len(reads))
			}
			if len(c.days) > maxDays {
				t.Fatalf("seed %d: %d days are held", seed, len(c.days))
			}
		}
	}
}
