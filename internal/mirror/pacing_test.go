package mirror

import (
	"context"
	"fmt"
	"net/http"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"polarmirror/internal/fetch"
	"polarmirror/internal/pgtest"
	"polarmirror/internal/polarsim"
	"polarmirror/internal/secret"
)

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

// The first is what is promised: with 500 requests a minute, and 150 ms and 7 µs
// for each row before a page, the time left of a million rows is right within a
// quarter once a tenth of them is read. The others are off by no more.
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
		{"a million rows", 1_000_000, 500, 8, noisy(0.15, 7, 0), 0},
		{"a million rows, scattered", 1_000_000, 500, 8, noisy(0.15, 7, 0.4), 0},
		{"the limiter decides", 100_000, 500, 8, noisy(0.15, 7, 0.4), 0},
		{"a low limit", 100_000, 60, 8, noisy(0.15, 7, 0.4), 0},
		{"no limit", 300_000, 0, 8, noisy(0.1, 20, 0.3), 0},
		{"depth costs nothing", 300_000, 0, 4, noisy(1, 0, 0.3), 0},
		{"a slow start", 50_000, 0, 4, noisy(5, 1, 0.3), 0},
		{"a first request that takes long", 1_000_000, 500, 8, firstTakes(3*time.Second, noisy(0.15, 7, 0.3)), 0},
		{"one at a time", 50_000, 0, 1, noisy(0.05, 5, 0.3), 0},
		{"many at a time", 300_000, 3000, 32, noisy(0.15, 7, 0.3), 0},
		{"the saving decides", 100_000, 0, 8, noisy(0.02, 0.1, 0.3), 50 * time.Millisecond},
		{"Polar, then the saving", 300_000, 0, 8, noisy(0.1, 7, 0.3), 100 * time.Millisecond},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				d := &distance{rows: tt.rows, latency: tt.latency}
				w := d.reader(t, tt.perMinute, tt.inFlight)
				var guesses []guess // after each tenth of the rows
				d.read(t, w, func(offset int) bool {
					if offset <= tt.rows*(9-len(guesses))/10 {
						guesses = append(guesses, guess{w.left(offset), time.Now()})
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
// allowed, it is the limiter that decides how long a walk of 100,000 rows takes.
// The walk is a real one, the database too; only the clock is not, and stands
// still while the database works.
func TestLimiterDecidesHowLongAWalkOfHundredThousandRowsTakes(t *testing.T) {
	t.Parallel()
	large(t)
	const rows, limit = 100_000, 500
	st, db := pgtest.NewStore(t)
	listed := 0
	synctest.Test(t, func(t *testing.T) {
		sim := polarsim.New(polarsim.Options{
			Seed:                  7,
			RequestsPerMinute:     limit,
			ColdRequestsPerMinute: 60,
			Latency:               150 * time.Millisecond,
			LatencyPerRow:         7 * time.Microsecond,
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
		seen := &positions{}
		m, err := New(Options{Organizations: []Organization{{Name: org.Name, ID: org.ID, Client: client}}, Store: st, Progress: seen})
		if err != nil {
			t.Fatal(err)
		}
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
		for _, r := range sim.Requests() {
			if r.Status != http.StatusOK {
				t.Errorf("request %d was answered %d", r.N, r.Status)
			}
		}
		checkGuess(t, seen.afterTenth, began.Add(took), "after a tenth of the rows")
	})
	w := &world{TB: t, store: st, db: db}
	if got := w.value(`SELECT count(*)::text FROM polar.customer_meters`); got != fmt.Sprint(listed) {
		t.Errorf("%s rows are mirrored of %d", got, listed)
	}
}

// positions notes the time left shown after a tenth of the rows.
type positions struct {
	mu         sync.Mutex
	afterTenth guess
}

func (p *positions) Walking(_ string, at Position) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.afterTenth.at.IsZero() && at.Remaining <= at.Total*9/10 {
		p.afterTenth = guess{at.Left, time.Now()}
	}
}

func (*positions) Walked(string, Position, error) {}
