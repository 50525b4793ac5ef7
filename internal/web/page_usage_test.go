package web

import (
	"math/rand/v2"
	"strconv"
	"testing"
	"time"

	"github.com/google/uuid"

	"polarmirror/internal/store"
)

// TestBookCountsEveryDayOnceItIsSettled lets weeks pass over a book: whatever
// changed, and however seldom it is looked at, it says what the history says.
func TestBookCountsEveryDayOnceItIsSettled(t *testing.T) {
	t.Parallel()
	for seed := range uint64(10) {
		chance := rand.New(rand.NewPCG(seed, 1))
		meter := uuid.New()
		began := time.Date(2026, 5, 1, 7, 0, 0, 0, time.UTC)
		truth := map[time.Time]int64{}
		b := &book{slow: chance.IntN(4)}
		now := began
		for range 200 {
			wait := time.Duration(chance.Int64N(int64(30 * time.Hour)))
			if chance.IntN(20) == 0 {
				wait = time.Duration(chance.Int64N(int64(120 * 24 * time.Hour))) // nobody looks for months
			}
			for at := now; !at.After(now.Add(wait)); at = at.Add(time.Hour) {
				truth[midnight(at)]++
			}
			now = now.Add(wait)
			looks := fillBookFrom(b, truth, meter, began, now)
			if looks > usageDays+2 {
				t.Fatalf("seed %d: %d looks", seed, looks)
			}
			// What a transaction of yesterday commits shortly after midnight.
			if now.Sub(midnight(now)) < settled/2 {
				truth[midnight(now).Add(-day)]++
			}
			checkBook(t, b, truth, meter, began, now)
		}
	}
}

func fillBookFrom(b *book, truth map[time.Time]int64, meter uuid.UUID, began, now time.Time) (looks int) {
	for again := true; again; looks++ {
		from, to := b.plan(midnight(began), midnight(now))
		var list []store.DailyUsage
		for at := from; at.Before(to); at = at.Add(day) {
			if n := truth[at]; n > 0 {
				list = append(list, store.DailyUsage{MeterID: meter, Day: at, Consumed: strconv.FormatInt(n, 10), Credited: "0"})
			}
		}
		again = b.enter(list, from, to, now)
	}
	return looks
}

func checkBook(t *testing.T, b *book, truth map[time.Time]int64, meter uuid.UUID, began, now time.Time) {
	t.Helper()
	u := b.snapshot()
	if u.Partial {
		t.Fatalf("%s: older days are missing", now)
	}
	list := u.on(meter, usageDays)
	want := min(int(midnight(now).Sub(midnight(began))/day)+1, usageDays)
	if len(list) != want || !list[len(list)-1].Day.Equal(midnight(now)) {
		t.Fatalf("%s: %d days to %s, want %d", now, len(list), list[len(list)-1].Day, want)
	}
	for _, d := range list {
		late := d.Day.Equal(midnight(now).Add(-day)) && now.Sub(midnight(now)) < settled/2
		if got := strconv.FormatInt(truth[d.Day], 10); d.Consumed != got && !late {
			t.Fatalf("%s: %s has %s, want %s", now, d.Day.Format(time.DateOnly), d.Consumed, got)
		}
	}
}
