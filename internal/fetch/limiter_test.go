package fetch

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"polarmirror/internal/secret"
)

// hammer has n goroutines list pages until d has passed.
func hammer(t *testing.T, c *Client, n int, d time.Duration) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), d)
	defer cancel()
	var wg sync.WaitGroup
	for range n {
		wg.Go(func() {
			for {
				if _, err := c.List(ctx, ListParams{}); err != nil {
					if !errors.Is(err, context.DeadlineExceeded) {
						t.Error(err)
					}
					return
				}
			}
		})
	}
	wg.Wait()
}

func TestNoMinuteHoldsMoreRequestsThanAllowed(t *testing.T) {
	t.Parallel()
	for _, limit := range []int{1, 2, 7, 60, 300, 500} {
		t.Run(fmt.Sprint(limit), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				s := &server{steps: []roundTrip{slow(150*time.Millisecond, ok)}}
				o := options(s)
				o.Limiters = NewLimiters(limit)
				hammer(t, newClient(t, o), 8, 5*time.Minute)
				times := s.arrivals()
				for i := range times {
					if j := i + limit; j < len(times) && times[j].Sub(times[i]) < time.Minute {
						t.Fatalf("%d requests in %s", limit+1, times[j].Sub(times[i]))
					}
				}
				// The budget is there to be used, too.
				if want := 5 * limit * 97 / 100; len(times) < want {
					t.Errorf("%d requests in five minutes, want %d at least", len(times), want)
				}
			})
		})
	}
}

// TestRetriesAreHeldToTheLimitToo: an attempt is a request, whichever it is.
func TestRetriesAreHeldToTheLimitToo(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		const limit = 60
		s := &server{steps: []roundTrip{say(503, "")}}
		o := options(s)
		o.Limiters = NewLimiters(limit)
		o.Retry.InitialInterval, o.Retry.MaxInterval = 100*time.Millisecond, 100*time.Millisecond
		hammer(t, newClient(t, o), 2, 2*time.Minute)
		times := s.arrivals()
		for i := limit; i < len(times); i++ {
			if d := times[i].Sub(times[i-limit]); d < time.Minute {
				t.Fatalf("%d requests in %s", limit+1, d)
			}
		}
		if len(times) <= limit {
			t.Errorf("%d requests in two minutes, too few to say anything", len(times))
		}
	})
}

func TestZeroIsNoLimit(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := &server{steps: []roundTrip{slow(time.Second, ok)}}
		hammer(t, newClient(t, options(s)), 8, 101*time.Second+time.Millisecond)
		if n := len(s.arrivals()); n < 8*99 {
			t.Errorf("%d requests", n)
		}
	})
}

func TestRateLimitStopsEveryoneWithTheToken(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name   string
		header []string
		want   time.Duration
	}{
		{"seconds", []string{"Retry-After", "30"}, 30 * time.Second},
		{"date", []string{"Retry-After", "Tue, 07 Apr 2026 10:00:40 GMT", "Date", "Tue, 07 Apr 2026 10:00:00 GMT"}, 40 * time.Second},
		{"date gone by", []string{"Retry-After", "Tue, 07 Apr 2026 09:00:00 GMT", "Date", "Tue, 07 Apr 2026 10:00:00 GMT"}, time.Second},
		{"nothing", nil, time.Second},
		{"nonsense", []string{"Retry-After", "soon"}, time.Second},
		{"zero", []string{"Retry-After", "0"}, time.Second},
		{"a day", []string{"Retry-After", "86400"}, maxPause},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				limiters := NewLimiters(0)
				var limitedAt time.Time
				s := &server{steps: []roundTrip{ok, ok, ok, func(*http.Request) (*http.Response, error) {
					limitedAt = time.Now()
					return answer(429, "", test.header...), nil
				}, ok}}
				o := options(s)
				n := &notes{}
				o.Limiters, o.Observer = limiters, n
				same, alsoSame := newClient(t, o), newClient(t, o)
				other := &server{steps: []roundTrip{ok}}
				o.Transport, o.Token = other, StaticToken(secret.New("another"))
				free := newClient(t, o)

				var count Counters
				for range 4 {
					mustList(t, same.Counting(&count))
					if limitedAt.IsZero() {
						time.Sleep(time.Second)
					}
				}
				if got := s.arrivals()[4].Sub(limitedAt); got != test.want {
					t.Errorf("went on after %s, want %s", got, test.want)
				}
				if count.RateLimited.Load() != 1 || count.Retries.Load() != 0 || count.Requests.Load() != 5 {
					t.Errorf("%d limited, %d retries, %d requests", count.RateLimited.Load(), count.Retries.Load(), count.Requests.Load())
				}
				limiters.For(secret.New(testToken)).Pause(time.Now().Add(time.Hour))
				began := time.Now()
				mustList(t, free)
				if !other.arrivals()[0].Equal(began) {
					t.Error("another token waited too")
				}
				mustList(t, alsoSame)
				if time.Since(began) != time.Hour {
					t.Errorf("another client with the token waited %s", time.Since(began))
				}
				if n.waited != time.Hour+test.want {
					t.Errorf("the observer was told of a wait of %s", n.waited)
				}
			})
		})
	}
}

// TestEndOfAPauseIsNoStampede has requests wait for their turn when the pause
// comes; their turns pass during it.
func TestEndOfAPauseIsNoStampede(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := &server{steps: []roundTrip{ok}}
		o := options(s)
		o.Limiters = NewLimiters(60)
		c := newClient(t, o)
		mustList(t, c)
		var wg sync.WaitGroup
		for range 8 {
			wg.Go(func() { mustList(t, c) })
		}
		synctest.Wait()
		o.Limiters.For(secret.New(testToken)).Pause(time.Now().Add(time.Minute))
		wg.Wait()
		times := s.arrivals()
		if pause := times[1].Sub(times[0]); pause < time.Minute {
			t.Errorf("went on after %s, want a minute", pause)
		}
		for i := 2; i < len(times); i++ {
			if gap := times[i].Sub(times[i-1]); gap < time.Second {
				t.Errorf("only %s between two requests after the pause", gap)
			}
		}
	})
}

func mustList(t *testing.T, c *Client) {
	t.Helper()
	if _, err := c.List(t.Context(), ListParams{}); err != nil {
		t.Error(err)
	}
}

func TestFirstRequestGoesAloneThenAllGo(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var inFlight, most atomic.Int64
		s := &server{}
		watch := func(step roundTrip) roundTrip {
			return func(r *http.Request) (*http.Response, error) {
				most.Store(max(most.Load(), inFlight.Add(1)))
				defer inFlight.Add(-1)
				return slow(time.Second, step)(r)
			}
		}
		s.steps = []roundTrip{watch(refuse), watch(say(503, "")), watch(say(429, "", "Retry-After", "5")), watch(ok)}
		c := newClient(t, options(s))
		ctx, cancel := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		for range 8 {
			wg.Go(func() {
				for ctx.Err() == nil {
					_, _ = c.List(ctx, ListParams{})
				}
			})
		}
		for len(s.arrivals()) < 4 {
			time.Sleep(time.Millisecond)
			if most.Load() > 1 {
				t.Fatalf("%d side by side before the first answer", most.Load())
			}
		}
		time.Sleep(10 * time.Second)
		if most.Load() != 8 {
			t.Errorf("at most %d side by side after it, want 8", most.Load())
		}
		cancel()
		wg.Wait()
	})
}

func TestRefusedTokenIsReadAgainOnce(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		current := "old"
		reads := 0
		source := RereadToken(func() (secret.Secret, error) { reads++; return secret.New(current), nil })
		s := &server{steps: []roundTrip{func(r *http.Request) (*http.Response, error) {
			if r.Header.Get("Authorization") == "Bearer new" {
				return ok(r)
			}
			return answer(401, `{"error":"invalid_token"}`), nil
		}}}
		o := options(s)
		o.Token = source
		c := newClient(t, o)
		_, err := c.List(t.Context(), ListParams{})
		if !errors.Is(err, ErrTokenRejected) || len(s.arrivals()) != 1 || reads != 2 {
			t.Errorf("unchanged: %v, %d requests, %d reads", err, len(s.arrivals()), reads)
		}
		current = "still wrong"
		_, err = c.List(t.Context(), ListParams{})
		if !errors.Is(err, ErrTokenRejected) || len(s.arrivals()) != 3 {
			t.Errorf("changed, still wrong: %v, %d requests", err, len(s.arrivals()))
		}
		current = "new"
		var wg sync.WaitGroup
		for range 5 { // all of them are under way when the token is replaced
			wg.Go(func() { mustList(t, c) })
		}
		wg.Wait()
		reads = 0
		mustList(t, c)
		if reads != 0 {
			t.Errorf("the token was read %d times though nobody refused it", reads)
		}
	})
}

func TestUnreadableTokenIsAnError(t *testing.T) {
	t.Parallel()
	broken := errors.New("no such file")
	o := options(say(200, onePage))
	o.Token = RereadToken(func() (secret.Secret, error) { return secret.Secret{}, broken })
	if _, err := newClient(t, o).List(t.Context(), ListParams{}); !errors.Is(err, broken) {
		t.Errorf("%v", err)
	}
	o.Token = StaticToken(secret.Secret{})
	if _, err := newClient(t, o).List(t.Context(), ListParams{}); err == nil {
		t.Error("an empty token is sent")
	}
	reads := 0
	o.Transport = say(401, "")
	o.Token = RereadToken(func() (secret.Secret, error) {
		if reads++; reads > 1 {
			return secret.Secret{}, broken
		}
		return secret.New("x"), nil
	})
	if _, err := newClient(t, o).List(t.Context(), ListParams{}); !errors.Is(err, broken) || !errors.Is(err, ErrTokenRejected) {
		t.Errorf("%v", err)
	}
}
