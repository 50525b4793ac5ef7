package fetch

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"polarmirror/internal/polar"
)

func TestPassingFailuresAreRetriedUntilAnAnswerComes(t *testing.T) {
	t.Parallel()
	for name, step := range map[string]roundTrip{
		"500":              say(500, `{"detail":"oops"}`),
		"502 of a proxy":   say(502, "<html>Bad gateway</html>", "Content-Type", "text/html"),
		"503":              say(503, ""),
		"408":              say(408, ""),
		"no connection":    refuse,
		"time-out":         hang,
		"cut body":         cutBody,
		"HTML with 200":    say(200, "<html>maintenance</html>"),
		"other JSON":       say(200, `{"detail":"hello"}`),
		"empty body":       say(200, ""),
		"204":              say(204, ""),
		"more than asked":  say(200, strings.Replace(onePage, oneItem, oneItem+","+oneItem+","+oneItem, 1)),
		"cut error answer": func(*http.Request) (*http.Response, error) { r := answer(404, "{"); r.ContentLength = 9; return r, nil },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				s := &server{steps: []roundTrip{step, step, ok}}
				log, logged := observed(t)
				o := options(s)
				o.Log = log
				var n Counters
				listing, err := newClient(t, o).Counting(&n).List(t.Context(), ListParams{Limit: 2})
				if err != nil {
					t.Fatal(err)
				}
				if len(listing.Page.CustomerMeters) != 1 || listing.Began != s.arrivals()[2] {
					t.Errorf("listing %+v", listing)
				}
				if n.Requests.Load() != 3 || n.Retries.Load() != 2 || n.RateLimited.Load() != 0 {
					t.Errorf("%d requests, %d retries", n.Requests.Load(), n.Retries.Load())
				}
				if lines := strings.Count(logged(), `"request retried"`); lines != 2 {
					t.Errorf("%d lines for 2 retries:\n%s", lines, logged())
				}
			})
		})
	}
}

func TestRetriesEndWithMaxElapsedTime(t *testing.T) {
	t.Parallel()
	for name, step := range map[string]roundTrip{"500": say(500, ""), "time-out": hang, "429": say(429, "", "Retry-After", "7")} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				s := &server{steps: []roundTrip{step}}
				o := options(s)
				o.Retry.MaxElapsedTime = 10 * time.Minute
				began := time.Now()
				_, err := newClient(t, o).List(t.Context(), ListParams{})
				if err == nil {
					t.Fatal("no error")
				}
				// Beyond the limit there is at most the attempt in hand.
				if took := time.Since(began); took < 8*time.Minute || took > 10*time.Minute+maxTimeout {
					t.Errorf("gave up after %s: %v", took, err)
				}
				if n := len(s.arrivals()); n < 5 || !strings.Contains(err.Error(), "after ") {
					t.Errorf("%d attempts: %v", n, err)
				}
			})
		})
	}
}

func TestWaitsGrowUpToTheirCeiling(t *testing.T) {
	t.Parallel()
	r := Retry{InitialInterval: time.Second, MaxInterval: 10 * time.Second, Exponent: 2}.withDefaults()
	for n, ceiling := range []time.Duration{1: 1, 2: 2, 3: 4, 4: 8, 5: 10, 6: 10, 5000: 10} {
		if ceiling == 0 {
			continue
		}
		ceiling *= time.Second
		var longest time.Duration
		for range 2000 {
			wait := r.backoff(n)
			if wait < 0 || wait > ceiling {
				t.Fatalf("wait %s after %d failures, ceiling %s", wait, n, ceiling)
			}
			longest = max(longest, wait)
		}
		if longest < ceiling*9/10 { // misses once in 10^91
			t.Errorf("after %d failures no wait beyond %s, ceiling %s", n, longest, ceiling)
		}
	}
}

func TestHopelessFailuresAreNotRetried(t *testing.T) {
	t.Parallel()
	noRetry := options(nil).Retry
	noRetry.RetryConnectionErrors = false
	for _, test := range []struct {
		name string
		step roundTrip
		is   error
		says []string
	}{
		{"400", say(400, `{"error":"BadRequest","detail":"no"}`), nil, []string{"status 400", "BadRequest: no"}},
		{"401", say(401, `{"error":"invalid_token","detail":"expired"}`), ErrTokenRejected,
			[]string{"organization acme", "invalid_token", "https://api.polar.sh", "customer_meters:read"}},
		{"403", say(403, `{"error":"insufficient_scope"}`), ErrScopeMissing, []string{"acme", "customer_meters:read"}},
		{"404 for the version", say(404, `{"detail":"Not Found"}`), ErrWrongAddress,
			[]string{"this API version is unknown to Polar or has been removed", "polar.api_version is 2026-04,", "is made for 2026-10;", "polar.base_url (https://api.polar.sh)"}},
		{"404 for the row of a list", say(404, `{"error":"ResourceNotFound","detail":"Not found"}`), ErrWrongAddress, []string{"polar.api_version (2026-04)"}},
		{"404 of somebody else", say(404, `<html>Not Found</html>`), ErrWrongAddress, []string{"polar.api_version (2026-04)", "polar.base_url (https://api.polar.sh)"}},
		{"422", say(422, `{"error":"RequestValidationError","detail":[{"loc":["query","page"],"msg":"Input should be greater than 0","type":"x"},{"loc":["query","sorting",0],"msg":"bad","type":"y"}]}`),
			ErrInvalidRequest, []string{`"loc":["query","page"],"msg":"Input should be greater than 0"`, "check the ids in organizations[].id"}},
		{"no connection, unless asked for", refuse, ErrNoAnswer, []string{"connection refused", "https://api.polar.sh/v1/customer-meters/"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				s := &server{steps: []roundTrip{test.step}}
				o := options(s)
				o.Retry = noRetry
				o.APIVersion = "2026-04"
				_, err := newClient(t, o).List(t.Context(), ListParams{Page: 3})
				if err == nil || len(s.arrivals()) != 1 {
					t.Fatalf("%d requests, %v", len(s.arrivals()), err)
				}
				if test.is != nil && !errors.Is(err, test.is) || errors.Is(err, ErrNotFound) {
					t.Errorf("%v is not %v", err, test.is)
				}
				for _, part := range append(test.says, "page 3", "acme") {
					if !strings.Contains(err.Error(), part) {
						t.Errorf("%q lacks %q", err, part)
					}
				}
				if strings.Contains(err.Error(), "\n") {
					t.Errorf("%q has several lines", err)
				}
			})
		})
	}
}

// TestOnlyPolarsOwnWordMakesNotFound guards deletions: a row is marked deleted
// for ErrNotFound, so a proxy's 404 must not be one.
func TestOnlyPolarsOwnWordMakesNotFound(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		body string
		want error
	}{
		{`{"error":"ResourceNotFound","detail":"Not found"}`, ErrNotFound},
		{`{"detail":"Not Found"}`, ErrWrongAddress},
		{`<html>ResourceNotFound</html>`, ErrWrongAddress},
		{``, ErrWrongAddress},
	} {
		_, err := newClient(t, options(say(404, test.body))).Get(t.Context(), testID(t))
		for _, sentinel := range []error{ErrNotFound, ErrWrongAddress} {
			if got := errors.Is(err, sentinel); got != (sentinel == test.want) {
				t.Errorf("404 %s: Is(%v) = %v", test.body, sentinel, got)
			}
		}
	}
}

func TestAnswersOfAnotherServerAreAskedForAFewTimesOnly(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := &server{steps: []roundTrip{say(200, "<html>\n\x1b[31mWelcome to nginx!</html>", "Content-Type", "text/html")}}
		_, err := newClient(t, options(s)).List(t.Context(), ListParams{})
		if n := len(s.arrivals()); n != maxMisdirected {
			t.Errorf("%d attempts, want %d", n, maxMisdirected)
		}
		var status *StatusError
		var shape *polar.ShapeError
		if !errors.Is(err, ErrUnexpectedBody) || !errors.As(err, &status) || !errors.As(err, &shape) {
			t.Fatalf("%v", err)
		}
		for _, part := range []string{"status 200", "text/html", "Welcome to nginx!", "5 attempts", "base_url"} {
			if !strings.Contains(err.Error(), part) {
				t.Errorf("%q lacks %q", err, part)
			}
		}
		if strings.ContainsAny(err.Error(), "\n\x1b") {
			t.Errorf("%q has control characters", err)
		}
	})
}

func TestEndOfContextEndsEveryWait(t *testing.T) {
	t.Parallel()
	cause := errors.New("shutting down")
	for name, step := range map[string]roundTrip{
		"during a request":  hang,
		"during a back-off": say(500, "", "Retry-After", "50"),
		"during a pause":    say(429, "", "Retry-After", "500"),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				ctx, cancel := context.WithCancelCause(t.Context())
				began := time.Now()
				time.AfterFunc(10*time.Second, func() { cancel(cause) })
				_, err := newClient(t, options(step)).List(ctx, ListParams{})
				if !errors.Is(err, cause) || time.Since(began) != 10*time.Second {
					t.Errorf("%v after %s", err, time.Since(began))
				}
			})
		})
	}
}
