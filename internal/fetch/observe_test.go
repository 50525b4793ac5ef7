package fetch

import (
	"context"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
)

// notes is an Observer that remembers.
type notes struct {
	mu      sync.Mutex
	answers map[Answer]int
	waited  time.Duration
	elapsed time.Duration
	retries int
}

func (n *notes) Waited(organization string, wait time.Duration) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if organization == "acme" {
		n.waited += wait
	}
}

func (n *notes) Requested(organization string, answer Answer, elapsed time.Duration) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.answers == nil {
		n.answers = map[Answer]int{}
	}
	if organization == "acme" {
		n.answers[answer]++
		n.elapsed += elapsed
	}
}

func (n *notes) Retried(string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.retries++
}

func TestObserverSeesEveryRequestInItsClass(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name    string
		steps   []roundTrip
		want    map[Answer]int
		retries int
	}{
		{"an answer", []roundTrip{ok}, map[Answer]int{Answered: 1}, 0},
		{"a failing server", []roundTrip{say(500, ""), say(503, ""), ok}, map[Answer]int{ServerFailure: 2, Answered: 1}, 2},
		{"rate limited", []roundTrip{say(429, "", "Retry-After", "3"), ok}, map[Answer]int{TooMany: 1, Answered: 1}, 0},
		{"no connection", []roundTrip{refuse, ok}, map[Answer]int{NoAnswer: 1, Answered: 1}, 1},
		{"a time-out", []roundTrip{hang, ok}, map[Answer]int{NoAnswer: 1, Answered: 1}, 1},
		{"a cut body", []roundTrip{cutBody, ok}, map[Answer]int{NoAnswer: 1, Answered: 1}, 1},
		{"another page", []roundTrip{say(200, "<html>"), ok}, map[Answer]int{Unusable: 1, Answered: 1}, 1},
		{"refused", []roundTrip{say(403, "{}")}, map[Answer]int{Refused: 1}, 0},
		{"a redirect to nowhere", []roundTrip{say(304, "")}, map[Answer]int{Redirected: 1}, 0},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				s := &server{}
				for _, step := range tt.steps {
					s.steps = append(s.steps, slow(100*time.Millisecond, step))
				}
				n, count := &notes{}, Counters{}
				o := options(s)
				o.Observer, o.Limiters = n, NewLimiters(60)
				c := newClient(t, o).Counting(&count)
				_, _ = c.List(t.Context(), ListParams{}) // its outcome is looked at elsewhere
				if d := cmp.Diff(tt.want, n.answers); d != "" {
					t.Errorf("(-want +got):\n%s", d)
				}
				if total := len(s.arrivals()); int64(total) != count.Requests.Load() || n.retries != tt.retries {
					t.Errorf("%d requests arrived, %d counted; %d retries, want %d", total, count.Requests.Load(), n.retries, tt.retries)
				}
				if n.answers[NoAnswer] == 0 && n.elapsed != time.Duration(len(tt.steps))*100*time.Millisecond {
					t.Errorf("%d answers took %v", len(tt.steps), n.elapsed)
				}
			})
		})
	}
}

func TestRequestGivenUpAtTheEndIsCanceled(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		n := &notes{}
		o := options(&server{steps: []roundTrip{hang}})
		o.Observer = n
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(time.Second, cancel)
		if _, err := newClient(t, o).List(ctx, ListParams{}); err == nil {
			t.Fatal("no error")
		}
		if d := cmp.Diff(map[Answer]int{Canceled: 1}, n.answers); d != "" {
			t.Errorf("(-want +got):\n%s", d)
		}
	})
}

func TestFollowedRedirectIsObservedAsARequest(t *testing.T) {
	t.Parallel()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Query().Get("again") == "" {
			http.Redirect(w, r, r.URL.Path+"?again=1", http.StatusTemporaryRedirect)
			return
		}
		_, _ = w.Write([]byte(onePage))
	}))
	t.Cleanup(s.Close)
	n := &notes{}
	o := options(nil)
	o.BaseURL, o.Transport, o.Observer = s.URL, s.Client().Transport, n
	if _, err := newClient(t, o).List(t.Context(), ListParams{}); err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(map[Answer]int{Redirected: 1, Answered: 1}, n.answers); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
}
