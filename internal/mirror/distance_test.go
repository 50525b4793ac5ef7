package mirror

import (
	"context"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"polarmirror/internal/fetch"
	"polarmirror/internal/secret"
)

// A distance is a Polar as far away and as slow as a test wants it, whose pages
// hold nothing: a descent does not look into them.
type distance struct {
	rows    int
	latency func(offset int) time.Duration

	mu       sync.Mutex
	requests int
	left     int // unanswered
}

func (d *distance) RoundTrip(r *http.Request) (*http.Response, error) {
	query := r.URL.Query()
	page, _ := strconv.Atoi(query.Get("page"))
	limit, _ := strconv.Atoi(query.Get("limit"))
	d.mu.Lock()
	d.requests++
	d.mu.Unlock()
	if err := sleep(r.Context(), d.latency((page-1)*limit)); err != nil {
		d.mu.Lock()
		d.left++
		d.mu.Unlock()
		return nil, err
	}
	body := fmt.Sprintf(`{"items":[],"pagination":{"total_count":%d,"max_page":1}}`, d.rows)
	return &http.Response{
		StatusCode: http.StatusOK,
		Header:     http.Header{"Content-Type": {"application/json"}},
		Body:       io.NopCloser(strings.NewReader(body)),
		Request:    r,

		ContentLength: int64(len(body)),
	}, nil
}

// reader is a worker that reads from d, without a database.
func (d *distance) reader(t testing.TB, perMinute, inFlight int) *worker {
	t.Helper()
	client, err := fetch.New(fetch.Options{
		Organization: "acme",
		BaseURL:      "https://polar.test",
		Token:        fetch.StaticToken(secret.New("polar_oat_x")),
		Transport:    d,
		Limiters:     fetch.NewLimiters(perMinute),
		Retry:        fetch.Retry{RetryConnectionErrors: true},
	})
	if err != nil {
		t.Fatal(err)
	}
	m := New(Options{Organizations: []Organization{{Name: "acme", Client: client}}, PagesInFlight: inFlight})
	return m.worker(m.opts.Organizations[0])
}

// noisy is what pages take whose latency scatters around a line: start seconds,
// and so many microseconds more for each row before them.
func noisy(start, perRow, scatter float64) func(int) time.Duration {
	return func(offset int) time.Duration {
		noise := rand.New(rand.NewPCG(uint64(offset), 11)).NormFloat64()
		seconds := (start + perRow*1e-6*float64(offset)) * math.Exp(scatter*noise-scatter*scatter/2)
		return time.Duration(seconds * float64(time.Second))
	}
}

// firstTakes is latency but for the first request.
func firstTakes(first time.Duration, latency func(int) time.Duration) func(int) time.Duration {
	var once sync.Once
	return func(offset int) time.Duration {
		took := latency(offset)
		once.Do(func() { took = first })
		return took
	}
}

// read goes through the list from both ends as a walk does, and calls at for each
// page with the rows that are left, until it returns false.
func (d *distance) read(t testing.TB, w *worker, at func(left int) bool) {
	t.Helper()
	ctx := context.Background()
	size := w.mirror.opts.PageSize
	plan := func(yield func(request) bool) {
		s := span{limit: size, newestFirst: true}
		for more := true; more && yield(request{span: s}); {
			switch {
			case !s.newestFirst:
				s, more = cover(s.offset, size), s.offset > 0
			case s.end() > d.rows/2:
				s = cover(d.rows-s.end(), size)
			default:
				s = coverUp(s.end()-1, size)
				s.newestFirst = true
			}
		}
	}
	from := w.reader(&fetch.Counters{})
	for page, err := range from.pages(ctx, plan, w.mirror.opts.PagesInFlight) {
		if err != nil {
			t.Fatal(err)
		}
		left := page.offset
		if page.newestFirst {
			left = d.rows - page.end()
		}
		if !at(left) {
			return
		}
	}
}
