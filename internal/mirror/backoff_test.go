package mirror

import (
	"testing"
	"testing/synctest"
	"time"
)

func TestWidthStaysWhileLatencyOnlyScatters(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name    string
		latency func(int) time.Duration
	}{
		{"near", noisy(0.02, 0.1, 0.7)},
		{"deep", noisy(0.15, 7, 0.5)},
		{"far", noisy(2, 1, 0.5)},
		{"a first request that takes long", firstTakes(20*time.Second, noisy(0.15, 7, 0.5))},
		{"a quick first request", firstTakes(time.Millisecond, noisy(0.15, 7, 0.5))},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				d := &distance{rows: 300_000, latency: tt.latency}
				w := d.reader(t, 0, 8)
				d.read(t, w, func(offset int) bool {
					if got := w.tempo.width.current(); got != 8 {
						t.Fatalf("at offset %d: %d requests in flight", offset, got)
					}
					return true
				})
			})
		})
	}
}

// For twenty minutes pages take four times as long as before.
func TestFewerRequestsAreInFlightWhilePagesAreSlow(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		began, usual := time.Now(), noisy(0.15, 7, 0.3)
		minute := func() int { return int(time.Since(began) / time.Minute) }
		d := &distance{rows: 1_000_000}
		d.latency = func(offset int) time.Duration {
			if m := minute(); m >= 10 && m < 30 {
				return 4 * usual(offset)
			}
			return usual(offset)
		}
		most := map[int]int{} // requests in flight, by the minute
		w := d.reader(t, 0, 8)
		d.read(t, w, func(int) bool {
			most[minute()] = max(most[minute()], d.inFlight())
			return true
		})
		delete(most, minute()) // the list came to its end
		for m, got := range most {
			want := 8
			switch {
			case m >= 18 && m < 30:
				want = 1
			case m >= 10 && m < 40:
				continue // on the way down, or up again
			}
			if got != want {
				t.Errorf("minute %d: %d requests in flight, want %d", m, got, want)
			}
		}
	})
}

// Pages that are slow for good are what is usual in the end.
func TestWidthComesBackThoughPagesStaySlow(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		began, usual := time.Now(), noisy(0.15, 7, 0.3)
		d := &distance{rows: 1_000_000}
		d.latency = func(offset int) time.Duration {
			if time.Since(began) > 10*time.Minute {
				return 3 * usual(offset)
			}
			return usual(offset)
		}
		w := d.reader(t, 500, 8)
		least := 8
		d.read(t, w, func(int) bool {
			least = min(least, w.tempo.width.current())
			return least == 8 || w.tempo.width.current() < 8
		})
		if least > 2 || w.tempo.width.current() != 8 {
			t.Errorf("%d requests in flight at least, %d in the end", least, w.tempo.width.current())
		}
	})
}

// A page takes longer than polar.timeout, and longer than could be foreseen.
// Once some have run into their time-outs no other does.
func TestDeepPagesAreWaitedFor(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		d := &distance{rows: 1_000_000, latency: noisy(0.15, 60, 0.1)}
		w := d.reader(t, 0, 8)
		pages := 0
		d.read(t, w, func(int) bool {
			pages++
			return pages < 300
		})
		if d.left == 0 || d.left > 16 { // 8 of them when the test ends
			t.Errorf("%d requests were given up", d.left)
		}
	})
}
