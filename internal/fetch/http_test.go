package fetch

import (
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
)

// serve starts a server on loopback and returns a client of it that retries at
// once, three times or so.
func serve(t testing.TB, handler http.HandlerFunc) *Client {
	t.Helper()
	s := httptest.NewServer(handler)
	t.Cleanup(s.Close)
	return clientOf(t, s)
}

func clientOf(t testing.TB, s *httptest.Server) *Client {
	t.Helper()
	o := options(nil)
	o.BaseURL = s.URL
	o.Retry.InitialInterval, o.Retry.MaxInterval = time.Nanosecond, time.Nanosecond
	o.Retry.MaxElapsedTime = 10 * time.Second // ends a test that fails, no other
	c := newClient(t, o)
	t.Cleanup(c.http.CloseIdleConnections)
	return c
}

func TestListSendsEveryParameterAndHeader(t *testing.T) {
	t.Parallel()
	var got *http.Request
	c := serve(t, func(w http.ResponseWriter, r *http.Request) {
		got = r
		fmt.Fprint(w, onePage)
	})
	a, b := uuid.New(), uuid.New()
	listing, err := c.List(t.Context(), ListParams{
		OrganizationID: []uuid.UUID{a}, CustomerID: []uuid.UUID{a, b}, MeterID: []uuid.UUID{b},
		ExternalCustomerID: []string{"user 1&2", "ü"}, Page: 7, Limit: 99,
		Sorting: []string{"created_at", "customer_id", "-meter_id"},
	})
	if err != nil {
		t.Fatal(err)
	}
	want := url.Values{
		"organization_id": {a.String()}, "customer_id": {a.String(), b.String()}, "meter_id": {b.String()},
		"external_customer_id": {"user 1&2", "ü"}, "page": {"7"}, "limit": {"99"},
		"sorting": {"created_at", "customer_id", "-meter_id"},
	}
	if diff := cmp.Diff(want, got.URL.Query()); diff != "" {
		t.Errorf("query (-want +got):\n%s", diff)
	}
	header := map[string]string{}
	for _, name := range []string{"Accept", "Authorization", "Polar-Version", "User-Agent"} {
		header[name] = got.Header.Get(name)
	}
	wantHeader := map[string]string{"Accept": "application/json", "Authorization": "Bearer " + testToken,
		"Polar-Version": "2026-10", "User-Agent": "syncd"}
	if diff := cmp.Diff(wantHeader, header); diff != "" {
		t.Errorf("header (-want +got):\n%s", diff)
	}
	if got.Method != "GET" || got.URL.Path != "/v1/customer-meters/" {
		t.Errorf("%s %s", got.Method, got.URL.Path)
	}
	m := listing.Page.CustomerMeters[0]
	if m.ConsumedUnits.String() != "1.50" || listing.ServerTime.IsZero() || listing.Began.IsZero() || listing.Elapsed <= 0 {
		t.Errorf("listing %+v", listing)
	}
	for _, p := range []ListParams{{Page: -1}, {Limit: -1}, {Limit: 101}} {
		if _, err := c.List(t.Context(), p); err == nil {
			t.Errorf("%+v is sent, and Polar would change it silently", p)
		}
	}
}

func TestGetReturnsTheCustomerMeterOrWhyItIsRejected(t *testing.T) {
	t.Parallel()
	body := oneItem
	c := serve(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/v1/customer-meters/"+meterID {
			t.Errorf("path %s", r.URL.Path)
		}
		fmt.Fprint(w, body)
	})
	single, err := c.Get(t.Context(), testID(t))
	if err != nil || single.CustomerMeter == nil || single.CustomerMeter.ID != testID(t) || single.ServerTime.IsZero() {
		t.Errorf("%+v, %v", single, err)
	}
	body = strings.Replace(oneItem, "0.50", "1e400000", 1)
	single, err = c.Get(t.Context(), testID(t))
	if err != nil || single.Rejected == nil || single.CustomerMeter != nil {
		t.Errorf("%+v, %v", single, err)
	}
	body = strings.Replace(oneItem, meterID, uuid.NewString(), 1)
	if _, err = c.Get(t.Context(), testID(t)); !errors.Is(err, ErrUnexpectedBody) {
		t.Errorf("another customer meter than asked for: %v", err)
	}
}

func TestCompressedBodiesAreRead(t *testing.T) {
	t.Parallel()
	c := serve(t, func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Accept-Encoding") != "gzip" {
			t.Errorf("Accept-Encoding %q", r.Header.Get("Accept-Encoding"))
		}
		w.Header().Set("Content-Encoding", "gzip")
		z := gzip.NewWriter(w)
		fmt.Fprint(z, onePage)
		if err := z.Close(); err != nil {
			t.Error(err)
		}
	})
	if _, err := c.List(t.Context(), ListParams{}); err != nil {
		t.Error(err)
	}
}

func TestHugeBodiesAreRefusedAtOnce(t *testing.T) {
	t.Parallel()
	zeros := strings.Repeat("0", 1<<20)
	for name, compress := range map[string]bool{"plain": false, "compressed": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var requests atomic.Int64
			c := serve(t, func(w http.ResponseWriter, _ *http.Request) {
				requests.Add(1)
				var out io.Writer = w
				if compress {
					w.Header().Set("Content-Encoding", "gzip")
					z := gzip.NewWriter(w)
					defer z.Close() //nolint:errcheck // the client has gone by then
					out = z
				}
				for range maxBody>>20 + 1 {
					if _, err := io.WriteString(out, zeros); err != nil {
						return
					}
				}
			})
			c.opts.Timeout = time.Hour // a busy machine takes long to compress so much
			_, err := c.List(t.Context(), ListParams{})
			if !errors.Is(err, ErrUnexpectedBody) || !errors.Is(err, errTooLarge) || requests.Load() != 1 {
				t.Errorf("%v after %d requests", err, requests.Load())
			}
		})
	}
}

// TestCutBodiesAreAskedForAgain cuts at every way there is of saying how long a
// body is.
func TestCutBodiesAreAskedForAgain(t *testing.T) {
	t.Parallel()
	half := onePage[:len(onePage)/2]
	for name, head := range map[string]string{
		"length":    fmt.Sprintf("HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s", len(onePage), half),
		"chunks":    fmt.Sprintf("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n", len(half), half),
		"close":     "HTTP/1.0 200 OK\r\n\r\n" + half,
		"nothing":   "",
		"header":    "HTTP/1.1 200 OK\r\nContent-Le",
		"gibberish": "SSH-2.0-OpenSSH_9.6\r\n",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var requests atomic.Int64
			c := serve(t, func(w http.ResponseWriter, _ *http.Request) {
				if requests.Add(1) > 2 {
					fmt.Fprint(w, onePage)
					return
				}
				conn, _, err := http.NewResponseController(w).Hijack()
				if err != nil {
					t.Error(err)
					return
				}
				_, _ = io.WriteString(conn, head)
				_ = conn.Close()
			})
			listing, err := c.List(t.Context(), ListParams{})
			if err != nil || len(listing.Page.CustomerMeters) != 1 {
				t.Errorf("%+v, %v", listing, err)
			}
		})
	}
}

func TestRedirectsStayOnTheServer(t *testing.T) {
	t.Parallel()
	var elsewhere atomic.Int64
	other := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { elsewhere.Add(1) }))
	t.Cleanup(func() {
		other.Close()
		if elsewhere.Load() > 0 {
			t.Error("a request went to the other server")
		}
	})
	for _, test := range []struct {
		name, target string
		ok           bool
	}{
		{"same server", "/v1/customer-meters/?moved=1", true},
		{"another port", other.URL + "/v1/customer-meters/", false},
		{"another host", "https://evil.example/" + testToken, false},
		{"a host that ends alike", "https://x.127.0.0.1/", false},
		{"for ever", "/v1/customer-meters/", false},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			var requests atomic.Int64
			c := serve(t, func(w http.ResponseWriter, r *http.Request) {
				requests.Add(1)
				if r.URL.Query().Get("moved") != "" {
					if r.Header.Get("Authorization") != "Bearer "+testToken {
						t.Error("the token got lost on the way")
					}
					fmt.Fprint(w, onePage)
					return
				}
				http.Redirect(w, r, test.target, http.StatusTemporaryRedirect)
			})
			var n Counters
			_, err := c.Counting(&n).List(t.Context(), ListParams{})
			if (err == nil) != test.ok {
				t.Fatalf("%v", err)
			}
			if n.Requests.Load() != requests.Load() {
				t.Errorf("%d requests counted, %d came", n.Requests.Load(), requests.Load())
			}
			var redirect *RedirectError
			if u, _ := url.Parse(test.target); u.Host != "" {
				if !errors.As(err, &redirect) || !strings.Contains(err.Error(), u.Host) || !strings.Contains(err.Error(), "polar.base_url") {
					t.Errorf("%v", err)
				}
				if errors.Is(err, ErrNoAnswer) || requests.Load() != 1 {
					t.Errorf("%d requests, %v", requests.Load(), err)
				}
			}
			if err != nil && strings.Contains(err.Error(), testToken) {
				t.Errorf("%v shows the token", err)
			}
		})
	}
}

func TestConnectionsAreReused(t *testing.T) {
	t.Parallel()
	const sideBySide = 16
	var opened atomic.Int64
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, onePage) }))
	s.Config.ConnState = func(_ net.Conn, state http.ConnState) {
		if state == http.StateNew {
			opened.Add(1)
		}
	}
	s.Start()
	defer s.Close()
	c := clientOf(t, s)
	var wg sync.WaitGroup
	for range sideBySide {
		wg.Go(func() {
			for range 20 {
				mustList(t, c)
			}
		})
	}
	wg.Wait()
	// A dial may lose the race against a connection set free, so a few more are
	// opened; without reuse there would be one a request.
	if opened.Load() > 4*sideBySide {
		t.Errorf("%d connections for %d requests side by side", opened.Load(), sideBySide)
	}
}
