package web

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// newShelf is a shelf whose looks are made by load; stop ends them.
func newShelf(load func(context.Context, string) (int, error)) (s *shelf[string, int], stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	w := &work{ctx: ctx}
	s = &shelf[string, int]{fresh: time.Second, stale: time.Minute, patience: 2 * time.Second, load: load, work: w, now: time.Now}
	return s, func() {
		cancel()
		w.running.Wait()
	}
}

func TestShelfLooksOnceForMany(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var looks atomic.Int64
		s, stop := newShelf(func(context.Context, string) (int, error) {
			time.Sleep(100 * time.Millisecond)
			return int(looks.Add(1)), nil
		})
		defer stop()
		var readers sync.WaitGroup
		for range 500 {
			readers.Go(func() {
				if got, _, err := s.get(t.Context(), "a"); got != 1 || err != nil {
					t.Errorf("got %d (%v), want the one look's 1", got, err)
				}
			})
		}
		readers.Wait()
		time.Sleep(500 * time.Millisecond)
		if got, _, _ := s.get(t.Context(), "a"); got != 1 {
			t.Errorf("a fresh answer was looked for again: %d", got)
		}
		time.Sleep(time.Second)
		if got, _, _ := s.get(t.Context(), "a"); got != 2 {
			t.Errorf("an old answer was not looked for again: %d", got)
		}
	})
}

func TestShelfLeavesTheDatabaseNineTenthsOfTheTime(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var busy atomic.Int64
		s, stop := newShelf(func(context.Context, string) (int, error) {
			began := time.Now()
			time.Sleep(1900 * time.Millisecond)
			busy.Add(int64(time.Since(began)))
			return 1, nil
		})
		defer stop()
		began := time.Now()
		for time.Since(began) < 10*time.Minute {
			if _, _, err := s.get(t.Context(), "a"); err != nil {
				t.Fatal(err)
			}
			time.Sleep(50 * time.Millisecond)
		}
		if share := float64(busy.Load()) / float64(time.Since(began)); share > 0.12 {
			t.Errorf("looks took %.0f %% of the time", 100*share)
		}
	})
}

func TestShelfServesTheLastAnswerWhileALookTakesLong(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var looks atomic.Int64
		s, stop := newShelf(func(ctx context.Context, _ string) (int, error) {
			n := looks.Add(1)
			if n > 1 {
				select {
				case <-time.After(10 * time.Second):
				case <-ctx.Done():
				}
			}
			return int(n), ctx.Err()
		})
		defer stop()
		s.get(t.Context(), "a")
		time.Sleep(2 * time.Second)
		began := time.Now()
		got, _, err := s.get(t.Context(), "a")
		if got != 1 || err != nil || time.Since(began) != s.patience {
			t.Errorf("got %d (%v) after %s, want the last answer after %s", got, err, time.Since(began), s.patience)
		}
		if _, _, err := s.get(t.Context(), "b"); !errors.Is(err, errNotReady) {
			t.Errorf("a first look that takes long: %v, want errNotReady", err)
		}
		time.Sleep(20 * time.Second)
		if got, _, err := s.get(t.Context(), "b"); got == 0 || err != nil {
			t.Errorf("the look was not gone on with: %d (%v)", got, err)
		}
	})
}

func TestShelfSaysThatTheDatabaseIsGoneOnceTheAnswerIsOld(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		gone := errors.New("gone")
		var broken atomic.Bool
		s, stop := newShelf(func(context.Context, string) (int, error) {
			if broken.Load() {
				return 0, gone
			}
			return 1, nil
		})
		defer stop()
		s.get(t.Context(), "a")
		broken.Store(true)
		time.Sleep(30 * time.Second)
		if got, _, err := s.get(t.Context(), "a"); got != 1 || err != nil {
			t.Errorf("within the tolerance: %d (%v)", got, err)
		}
		time.Sleep(40 * time.Second)
		if _, _, err := s.get(t.Context(), "a"); !errors.Is(err, gone) {
			t.Errorf("beyond the tolerance: %v, want the error", err)
		}
		broken.Store(false)
		time.Sleep(2 * time.Second)
		if got, _, err := s.get(t.Context(), "a"); got != 1 || err != nil {
			t.Errorf("back again: %d (%v)", got, err)
		}
	})
}

func TestShelfForgetsWhatNobodyAsksFor(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s, stop := newShelf(func(context.Context, string) (int, error) { return 1, nil })
		defer stop()
		for i := range 3 * shelfSize {
			if _, _, err := s.get(t.Context(), string(rune('a'+i))); err != nil {
				t.Fatal(err)
			}
			time.Sleep(time.Millisecond)
		}
		if n := len(s.answers); n > shelfSize {
			t.Errorf("%d answers are held, want at most %d", n, shelfSize)
		}
	})
}
