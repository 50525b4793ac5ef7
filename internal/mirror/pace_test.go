package mirror

import (
	"context"
	"fmt"
	"net/http"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"polarmirror/internal/fetch"
	"polarmirror/internal/pgtest"
	"polarmirror/internal/polarsim"
	"polarmirror/internal/secret"
)

func TestConcurrencyStaysWhileLatencyOnlyScatters(t *testing.T) {
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
					if got := w.pace.concurrency(); got != 8 {
						t.Fatalf("at offset %d: %d requests in flight", offset, got)
					}
					return true
				})
			})
		})
	}
}

// Pages take four times as long as before, and then as long as before again.
func TestFewerRequestsAreInFlightWhenPagesSlowDown(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		usual := noisy(0.5, 0, 0.3)
		d := &distance{rows: 300_000}
		slow := func(page int64) bool { return page >= 500 && page < 800 }
		var pages atomic.Int64
		d.latency = func(offset int) time.Duration {
			if slow(pages.Load()) {
				return 4 * usual(offset)
			}
			return usual(offset)
		}
		w := d.reader(t, 0, 8)
		least, last := 8, 0
		d.read(t, w, func(int) bool {
			page := pages.Add(1)
			last = w.pace.concurrency()
			if page < 500 && last != 8 {
				t.Errorf("page %d: %d requests in flight before pages slowed down", page, last)
			}
			least = min(least, last)
			return true
		})
		if least > 4 || last != 8 {
			t.Errorf("%d requests in flight at least, %d in the end, want 4 at most and 8", least, last)
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

// A guess is a time left that was shown, and when.
type guess struct {
	left time.Duration
	at   time.Time
}

// checkGuess fails unless g was right within a quarter.
func checkGuess(t testing.TB, g guess, end time.Time, when string) {
	t.Helper()
	if ratio := g.left.Seconds() / end.Sub(g.at).Seconds(); !(ratio > 0.75 && ratio < 1.25) {
		t.Errorf("%s: %v left, in truth %v", when, g.left, end.Sub(g.at))
	}
}

// While the limiter or the saving decides how fast pages come, the time left is
// right within a quarter once a tenth of the rows is read.
func TestTimeLeftIsRightAfterATenthOfTheRows(t *testing.T) {
	t.Parallel()
	large(t)
	for _, tt := range []struct {
		name      string
		rows      int
		perMinute int
		inFlight  int
		latency   func(int) time.Duration
		work      time.Duration // for each page
	}{
		{"the limiter decides", 100_000, 500, 8, noisy(0.15, 7, 0.4), 0},
		{"a low limit", 100_000, 60, 8, noisy(0.15, 7, 0.4), 0},
		{"depth costs nothing", 300_000, 0, 4, noisy(1, 0, 0.3), 0},
		{"a first request that takes long", 100_000, 500, 8, firstTakes(3*time.Second, noisy(0.15, 7, 0.3)), 0},
		{"the saving decides", 100_000, 0, 8, noisy(0.02, 0.1, 0.3), 50 * time.Millisecond},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				d := &distance{rows: tt.rows, latency: tt.latency}
				w := d.reader(t, tt.perMinute, tt.inFlight)
				var guesses []guess // after each tenth of the rows
				d.read(t, w, func(offset int) bool {
					if offset <= tt.rows*(9-len(guesses))/10 {
						guesses = append(guesses, guess{w.pace.left(pagesOf(offset, w.mirror.opts.PageSize)), time.Now()})
					}
					time.Sleep(tt.work)
					return true
				})
				end := time.Now()
				for i, g := range guesses[:9] {
					checkGuess(t, g, end, fmt.Sprintf("after %d tenths of the rows", i+1))
				}
			})
		})
	}
}

// Pages that take long must not keep those that came from making room.
func TestScatteredLatencyCostsNoBudget(t *testing.T) {
	t.Parallel()
	large(t)
	synctest.Test(t, func(t *testing.T) {
		const limit = 500
		d := &distance{rows: 100_000, latency: noisy(0.15, 7, 0.5)}
		w := d.reader(t, limit, 8)
		began := time.Now()
		d.read(t, w, func(int) bool { return true })
		took, dictated := time.Since(began), time.Duration(d.requests)*time.Minute/limit
		if took.Seconds() > 1.05*dictated.Seconds() {
			t.Errorf("%v, want at most 1.05 of %v", took, dictated)
		}
	})
}

// With 150 ms and 7 µs for each row before a page, and 500 requests a minute
// allowed, it is the limiter that decides how long a walk of 24,000 rows takes.
// The walk is a real one, the database too; only the clock is not, and stands
// still while the database works.
func TestLimiterDecidesHowLongALongWalkTakes(t *testing.T) {
	t.Parallel()
	large(t)
	const rows, limit = 24_000, 500
	st, db := pgtest.NewStore(t)
	listed := 0
	synctest.Test(t, func(t *testing.T) {
		sim := polarsim.New(polarsim.Options{
			Seed:                  7,
			RequestsPerMinute:     limit,
			ColdRequestsPerMinute: 60,
			Latency:               150 * time.Millisecond,
			CostScale:             1,
			Organizations:         []polarsim.Organization{{Name: "acme", CustomerMeters: rows}},
		})
		org := sim.Organizations()[0]
		client, err := fetch.New(fetch.Options{
			Organization: org.Name,
			BaseURL:      "https://polar.test",
			Token:        fetch.StaticToken(secret.New(org.Token)),
			Transport:    sim.Transport(),
			Limiters:     fetch.NewLimiters(limit),
		})
		if err != nil {
			t.Fatal(err)
		}
		m := New(Options{Organizations: []Organization{{Name: org.Name, ID: org.ID, Client: client}}, Store: st, Walk: true})
		m.notices = nil // their connections would be made inside the bubble
		began := time.Now()
		if err := m.Backfill(context.Background()); err != nil {
			t.Fatal(err)
		}
		took := time.Since(began)

		listed = len(sim.Listed(org.ID))
		requests := sim.RequestCount()
		if most := listed*115/10000 + 3; requests > most {
			t.Errorf("%d requests for %d rows, want at most %d", requests, listed, most)
		}
		if dictated := time.Duration(requests) * time.Minute / limit; took.Seconds() > 1.05*dictated.Seconds() {
			t.Errorf("the walk took %v, want at most 1.05 of %v", took, dictated)
		}
		for i, r := range sim.Requests() {
			if r.Status != http.StatusOK {
				t.Errorf("request %d was answered %d", i+1, r.Status)
			}
		}
	})
	w := &env{TB: t, store: st, db: db}
	if got := w.value(`SELECT count(*)::text FROM polar.customer_meters`); got != fmt.Sprint(listed) {
		t.Errorf("%s rows are mirrored of %d", got, listed)
	}
}
