package fetch

import (
	"errors"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestTimeoutCanBeWidenedForOneRequest(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := &server{steps: []roundTrip{slow(50*time.Second, ok)}}
		o := options(s)
		o.Retry.MaxElapsedTime = time.Nanosecond
		c := newClient(t, o)
		listing, err := c.List(t.Context(), ListParams{Timeout: time.Minute})
		if err != nil || listing.Elapsed != 50*time.Second {
			t.Errorf("%+v, %v", listing, err)
		}
		_, err = c.List(t.Context(), ListParams{})
		if !errors.Is(err, ErrNoAnswer) || !strings.Contains(err.Error(), "within 30s") {
			t.Errorf("%v", err)
		}
	})
}

// A request that runs into its time-out waits twice as long the next time, up
// to a bound; one that fails otherwise does not.
func TestTimedOutRequestWaitsLongerNextTime(t *testing.T) {
	t.Parallel()
	const minute = time.Minute
	for _, test := range []struct {
		name    string
		timeout time.Duration
		steps   []roundTrip
		want    []time.Duration // how long each attempt took
	}{
		{"doubles up to the bound", minute, []roundTrip{hang, hang, hang, hang, ok}, []time.Duration{minute, 2 * minute, 4 * minute, maxTimeout, 0}},
		{"answers in the end", minute, []roundTrip{hang, slow(90*time.Second, ok)}, []time.Duration{minute, 90 * time.Second}},
		{"other failures change nothing", minute, []roundTrip{say(503, ""), refuse, hang, ok}, []time.Duration{0, 0, minute, 0}},
		{"one beyond the bound stays", 2 * maxTimeout, []roundTrip{hang, hang, ok}, []time.Duration{2 * maxTimeout, 2 * maxTimeout, 0}},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				var got []time.Duration
				s := &server{}
				for _, step := range test.steps {
					s.steps = append(s.steps, func(r *http.Request) (*http.Response, error) {
						began := time.Now()
						defer func() { got = append(got, time.Since(began)) }()
						return step(r)
					})
				}
				o := options(s)
				o.Timeout = test.timeout
				began := time.Now()
				listing, err := newClient(t, o).List(t.Context(), ListParams{})
				if err != nil {
					t.Fatal(err)
				}
				if diff := cmp.Diff(test.want, got); diff != "" {
					t.Errorf("(-want +got):\n%s", diff)
				}
				if took := time.Since(began); listing.Took != took {
					t.Errorf("Took = %s, want all of %s", listing.Took, took)
				}
			})
		})
	}
}

func TestTookLeavesOutWhatTheLimiterHeldBack(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := &server{steps: []roundTrip{ok, say(429, "", "Retry-After", "30"), slow(time.Second, ok)}}
		o := options(s)
		o.Limiters = NewLimiters(6)
		c := newClient(t, o)
		mustList(t, c)
		began := time.Now()
		listing, err := c.List(t.Context(), ListParams{})
		if err != nil || listing.Took != time.Second || time.Since(began) < 31*time.Second {
			t.Errorf("%+v after %s, %v", listing, time.Since(began), err)
		}
	})
}

func TestIntervalIsThatOfTheLimiter(t *testing.T) {
	t.Parallel()
	for _, limit := range []int{0, 1, 60, 100, 500, 6000} {
		synctest.Test(t, func(t *testing.T) {
			o := options(roundTrip(ok))
			o.Limiters = NewLimiters(limit)
			c := newClient(t, o)
			began := time.Now()
			const n = 2000
			for range n {
				mustList(t, c)
			}
			got, want := time.Since(began).Seconds(), (n * c.Interval()).Seconds()
			if got > want || got < 0.95*want {
				t.Errorf("%d a minute: %d requests took %v s, want %v", limit, n, got, want)
			}
		})
	}
}
