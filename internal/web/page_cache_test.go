package web

import (
	"context"
	"errors"
	"strconv"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// withCache calls test, on a clock of its own, with a cache whose n-th load is made
// by load; ask waits two seconds at most.
func withCache(t *testing.T, load func(ctx context.Context, n int) error, test func(t *testing.T, c *cache[string, int], ask func(key string) (int, error))) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := &Page{now: time.Now}
		p.ctx, p.cancel = context.WithCancel(context.Background())
		defer p.Close()
		n := 0
		var mu sync.Mutex
		c := newCache(p, time.Second, time.Minute, func(ctx context.Context, _ string) (int, error) {
			mu.Lock()
			n++
			mine := n
			mu.Unlock()
			return mine, load(ctx, mine)
		})
		test(t, c, func(key string) (int, error) {
			ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
			defer cancel()
			return c.get(ctx, key)
		})
	})
}

func TestCacheLoadsOnceForMany(t *testing.T) {
	load := func(context.Context, int) error { time.Sleep(100 * time.Millisecond); return nil }
	withCache(t, load, func(t *testing.T, _ *cache[string, int], ask func(string) (int, error)) {
		expect := func(want int) {
			if got, err := ask("a"); got != want || err != nil {
				t.Errorf("got load %d (%v), want %d", got, err, want)
			}
		}
		var readers sync.WaitGroup
		for range 500 {
			readers.Go(func() { expect(1) })
		}
		readers.Wait()
		time.Sleep(500 * time.Millisecond)
		expect(1) // fresh
		time.Sleep(time.Second)
		expect(2) // old
	})
}

func TestCacheLeavesTheDatabaseNineTenthsOfTheTime(t *testing.T) {
	busy := time.Duration(0)
	load := func(context.Context, int) error {
		time.Sleep(1900 * time.Millisecond)
		busy += 1900 * time.Millisecond
		return nil
	}
	withCache(t, load, func(t *testing.T, _ *cache[string, int], ask func(string) (int, error)) {
		began := time.Now()
		for time.Since(began) < 10*time.Minute {
			if _, err := ask("a"); err != nil {
				t.Fatal(err)
			}
			time.Sleep(50 * time.Millisecond)
		}
		if share := float64(busy) / float64(time.Since(began)); share > 0.12 {
			t.Errorf("loads took %.0f %% of the time", 100*share)
		}
	})
}

func TestCacheServesTheLastAnswerWhileALoadTakesLong(t *testing.T) {
	load := func(ctx context.Context, n int) error {
		if n > 1 {
			select {
			case <-time.After(10 * time.Second):
			case <-ctx.Done():
			}
		}
		return ctx.Err()
	}
	withCache(t, load, func(t *testing.T, _ *cache[string, int], ask func(string) (int, error)) {
		_, _ = ask("a")
		time.Sleep(2 * time.Second)
		if got, err := ask("a"); got != 1 || err != nil {
			t.Errorf("got load %d (%v), want the last answer", got, err)
		}
		if _, err := ask("b"); !errors.Is(err, errNotReady) {
			t.Errorf("a first load that takes long: %v, want errNotReady", err)
		}
		time.Sleep(20 * time.Second)
		if got, err := ask("b"); got == 0 || err != nil {
			t.Errorf("the load did not go on: %d (%v)", got, err)
		}
	})
}

func TestCacheSaysThatTheDatabaseIsGoneOnceTheAnswerIsOld(t *testing.T) {
	var gone error
	load := func(context.Context, int) error { return gone }
	withCache(t, load, func(t *testing.T, _ *cache[string, int], ask func(string) (int, error)) {
		_, _ = ask("a")
		gone = errors.New("gone")
		time.Sleep(30 * time.Second)
		if got, err := ask("a"); got != 1 || err != nil {
			t.Errorf("within the tolerance: %d (%v)", got, err)
		}
		time.Sleep(40 * time.Second)
		if _, err := ask("a"); !errors.Is(err, gone) {
			t.Errorf("beyond the tolerance: %v, want the error", err)
		}
		gone = nil
		time.Sleep(2 * time.Second)
		if got, err := ask("a"); got == 0 || err != nil {
			t.Errorf("back again: %d (%v)", got, err)
		}
	})
}

func TestCacheForgetsWhatNobodyAsksFor(t *testing.T) {
	load := func(context.Context, int) error { return nil }
	withCache(t, load, func(t *testing.T, c *cache[string, int], ask func(string) (int, error)) {
		for i := range 3 * cacheSize {
			if _, err := ask(strconv.Itoa(i)); err != nil {
				t.Fatal(err)
			}
			time.Sleep(time.Millisecond)
		}
		if n := len(c.entries); n > cacheSize {
			t.Errorf("%d answers are held, want at most %d", n, cacheSize)
		}
	})
}
