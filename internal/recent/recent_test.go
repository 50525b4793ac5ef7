package recent

import (
	"context"
	"errors"
	"strconv"
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

func (q *question) ask(ctx context.Context, _ string) (int, error) {
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
				if got, err := v.Get(t.Context(), ""); err != nil || got.Value != 1 {
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
					got, err := v.Get(t.Context(), "")
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
		first, err := v.Get(t.Context(), "")
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second)
		for range 5 {
			if last, err := v.Get(t.Context(), ""); !errors.Is(err, broken) || last != first {
				t.Errorf("got %v and the last good answer %v, want %v", err, last, first)
			}
		}
		if q.asked != 2 {
			t.Errorf("asked %d times, want 2", q.asked)
		}
	})
}

func TestAskingEndsWithItsTimeout(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		q := &question{took: time.Hour}
		v := New(Options{Timeout: 2 * time.Second}, q.ask)
		began := time.Now()
		_, err := v.Get(t.Context(), "")
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
		if _, err := v.Get(impatient, ""); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("got %v", err)
		}
		if got, err := v.Get(t.Context(), ""); err != nil || got.Value != 1 {
			t.Errorf("got %v, %v, want the answer that the impatient one asked for", got, err)
		}
	})
}

func TestLastAnswerIsThereWhileTheNextTakesLong(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		q := &question{}
		v := New(Options{Keep: time.Second}, q.ask)
		if _, err := v.Get(t.Context(), ""); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second)
		q.took = time.Hour
		impatient, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if last, err := v.Get(impatient, ""); last.Value != 1 || !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("got %v, %v, want the last answer", last, err)
		}
		time.Sleep(2 * time.Hour)
	})
}

// TestFailureOfALastingAnswerIsSoonMadeGood although the answer itself would stand
// for long.
func TestFailureOfALastingAnswerIsSoonMadeGood(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		q := &question{fail: func(n int) error {
			if n == 1 {
				return errors.New("broken")
			}
			return nil
		}}
		v := New(Options{Keep: 1000 * time.Hour}, q.ask)
		_, _ = v.Get(t.Context(), "")
		for range 100 {
			time.Sleep(maxFailure)
			if got, err := v.Get(t.Context(), ""); got.Value != 2 || err != nil {
				t.Fatalf("got %v, %v", got, err)
			}
		}
	})
}

func TestNoMoreAnswersAreKeptThanAllowed(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		q := &question{}
		v := New(Options{Keep: time.Hour, Size: 10}, q.ask)
		for i := range 30 {
			if got, err := v.Get(t.Context(), strconv.Itoa(i)); got.Value != i+1 || err != nil {
				t.Fatal(got, err)
			}
			time.Sleep(time.Millisecond)
		}
		if got, err := v.Get(t.Context(), "29"); got.Value != 30 || err != nil || len(v.entries) != 10 {
			t.Errorf("got %v, %v; %d answers are kept, want 10, the last among them", got, err, len(v.entries))
		}
	})
}
