package recent

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// question counts how often it is asked, and how often side by side.
type question struct {
	took time.Duration
	fail func(n int) error

	mu            sync.Mutex
	asked         int
	now, together int
}

func (q *question) ask(ctx context.Context) (int, error) {
	q.mu.Lock()
	q.asked++
	n := q.asked
	q.now++
	q.together = max(q.together, q.now)
	q.mu.Unlock()
	defer func() {
		q.mu.Lock()
		q.now--
		q.mu.Unlock()
	}()
	select {
	case <-time.After(q.took):
	case <-ctx.Done():
		return 0, ctx.Err()
	}
	if q.fail != nil {
		return n, q.fail(n)
	}
	return n, nil
}

func TestManyAskersCostOneAsking(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		q := &question{took: time.Second}
		v := New(Options{Timeout: 3 * time.Second, Keep: time.Second}, q.ask)
		var askers sync.WaitGroup
		for range 1000 {
			askers.Go(func() {
				if got, err := v.Get(t.Context()); err != nil || got.Value != 1 {
					t.Errorf("got %v, %v", got, err)
				}
			})
		}
		askers.Wait()
		if q.asked != 1 || q.together != 1 {
			t.Errorf("asked %d times, %d at once", q.asked, q.together)
		}
	})
}

func TestAnswerStandsForKeepOrRestAndThenIsRenewed(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name   string
		opts   Options
		took   time.Duration
		stands time.Duration
	}{
		{"a quick one", Options{Timeout: time.Minute, Keep: 10 * time.Second, Rest: 19}, 100 * time.Millisecond, 10 * time.Second},
		{"a slow one", Options{Timeout: time.Minute, Keep: 10 * time.Second, Rest: 19}, 4 * time.Second, 76 * time.Second},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				q := &question{took: tt.took}
				v := New(tt.opts, q.ask)
				get := func() int {
					got, err := v.Get(t.Context())
					if err != nil {
						t.Fatal(err)
					}
					return got.Value
				}
				get()
				time.Sleep(tt.stands - time.Millisecond)
				if got := get(); got != 1 {
					t.Errorf("asked again after less than %v", tt.stands)
				}
				time.Sleep(time.Millisecond)
				if got := get(); got != 2 {
					t.Errorf("not asked again after %v", tt.stands)
				}
			})
		})
	}
}

func TestFailureStandsTooAndTheLastGoodAnswerIsKept(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		broken := errors.New("broken")
		q := &question{fail: func(n int) error {
			if n > 1 {
				return broken
			}
			return nil
		}}
		v := New(Options{Timeout: time.Second, Keep: time.Second}, q.ask)
		if _, ok := v.Last(); ok {
			t.Error("an answer before anybody asked")
		}
		first, err := v.Get(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second)
		for range 5 {
			if _, err := v.Get(t.Context()); !errors.Is(err, broken) {
				t.Errorf("got %v", err)
			}
		}
		if q.asked != 2 {
			t.Errorf("asked %d times, want 2", q.asked)
		}
		if last, ok := v.Last(); !ok || last != first {
			t.Errorf("last good answer %v, %v, want %v", last, ok, first)
		}
	})
}

func TestAskingEndsWithItsTimeout(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		q := &question{took: time.Hour}
		v := New(Options{Timeout: 2 * time.Second}, q.ask)
		began := time.Now()
		_, err := v.Get(t.Context())
		if !errors.Is(err, ErrTimeout) || time.Since(began) != 2*time.Second {
			t.Errorf("%v after %v", err, time.Since(began))
		}
	})
}

func TestAskerWhoGivesUpEndsNothingForTheOthers(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		q := &question{took: time.Second}
		v := New(Options{Timeout: 2 * time.Second, Keep: time.Second}, q.ask)
		impatient, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		defer cancel()
		if _, err := v.Get(impatient); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("got %v", err)
		}
		if got, err := v.Get(t.Context()); err != nil || got.Value != 1 {
			t.Errorf("got %v, %v, want the answer that the impatient one asked for", got, err)
		}
	})
}
