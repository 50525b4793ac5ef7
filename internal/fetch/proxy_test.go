package fetch

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

const proxyPassword = "pr0xyS3cr3t"

// A forwardProxy is a real proxy for CONNECT. Its first answers are the steps;
// after them it connects.
type forwardProxy struct {
	*httptest.Server
	requests atomic.Int64
}

func newForwardProxy(t testing.TB, steps ...http.HandlerFunc) *forwardProxy {
	t.Helper()
	p := &forwardProxy{}
	p.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if n := int(p.requests.Add(1)); n <= len(steps) {
			steps[n-1](w, r)
			return
		}
		tunnel(t, w, r)
	}))
	t.Cleanup(p.Close)
	return p
}

func tunnel(t testing.TB, w http.ResponseWriter, r *http.Request) {
	server, err := (&net.Dialer{}).DialContext(r.Context(), "tcp", r.Host)
	if err != nil {
		t.Errorf("proxy: %v", err)
		return
	}
	defer server.Close()
	client, buffered, err := http.NewResponseController(w).Hijack()
	if err != nil {
		t.Errorf("proxy: %v", err)
		return
	}
	defer client.Close()
	if _, err := io.WriteString(client, "HTTP/1.1 200 OK\r\n\r\n"); err != nil {
		return
	}
	var both sync.WaitGroup
	both.Go(func() { _, _ = io.Copy(server, buffered); _ = server.Close() })
	both.Go(func() { _, _ = io.Copy(client, server); _ = client.Close() })
	both.Wait()
}

func status(code int, header ...string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		for i := 0; i+1 < len(header); i += 2 {
			w.Header().Set(header[i], header[i+1])
		}
		w.WriteHeader(code)
		fmt.Fprintf(w, "<html>%s by the proxy</html>", http.StatusText(code))
	}
}

func hangUp(w http.ResponseWriter, _ *http.Request) {
	if conn, _, err := http.NewResponseController(w).Hijack(); err == nil {
		_ = conn.Close()
	}
}

// proxied returns options for a client of s by way of the proxy at address.
func proxied(t testing.TB, s *httptest.Server, address string, user *url.Userinfo) Options {
	t.Helper()
	proxy, err := url.Parse(address)
	if err != nil {
		t.Fatal(err)
	}
	proxy.User = user
	transport := NewTransport()
	transport.Proxy = http.ProxyURL(proxy)
	if s.TLS != nil {
		transport.TLSClientConfig = s.Client().Transport.(*http.Transport).TLSClientConfig
	}
	t.Cleanup(transport.CloseIdleConnections)
	o := options(transport)
	o.BaseURL = s.URL
	o.Retry.InitialInterval, o.Retry.MaxInterval = time.Nanosecond, time.Nanosecond
	o.Retry.MaxElapsedTime = 10 * time.Second
	return o
}

func polarServer(t testing.TB, start func(http.Handler) *httptest.Server) *httptest.Server {
	t.Helper()
	s := start(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, onePage) }))
	t.Cleanup(s.Close)
	return s
}

func TestProxysRefusalNamesTheProxyAndIsNotRetried(t *testing.T) {
	t.Parallel()
	user := url.UserPassword("operator", proxyPassword)
	for _, tt := range []struct {
		name  string
		start func(http.Handler) *httptest.Server
		step  http.HandlerFunc
		user  *url.Userinfo
		is    error
		says  []string
	}{
		{"CONNECT 403", httptest.NewTLSServer, status(403), user, ErrNoAnswer, []string{"(HTTPS_PROXY) refused access to 127.0.0.1:", "status 403 Forbidden; have the proxy allow it"}},
		{"CONNECT 407", httptest.NewTLSServer, status(407, "Proxy-Authenticate", `Basic realm="x"`), nil, ErrNoAnswer, []string{"status 407 Proxy Authentication Required; add the proxy's user and password to HTTPS_PROXY"}},
		{"CONNECT 407 despite a password", httptest.NewTLSServer, status(407), user, ErrNoAnswer, []string{"correct the user and password in HTTPS_PROXY"}},
		{"CONNECT 407 for NTLM", httptest.NewTLSServer, status(407, "Proxy-Authenticate", "NTLM"), user, ErrNoAnswer, []string{"does not offer basic authentication"}},
		{"CONNECT 401", httptest.NewTLSServer, status(401), user, ErrNoAnswer, []string{"status 401"}},
		{"CONNECT 405", httptest.NewTLSServer, status(405), user, ErrNoAnswer, []string{"status 405"}},
		{"CONNECT 501", httptest.NewTLSServer, status(501), user, ErrNoAnswer, []string{"status 501"}},
		{"CONNECT 204", httptest.NewTLSServer, status(204), user, ErrNoAnswer, []string{"status 204"}},
		{"plain 407", httptest.NewServer, status(407), user, ErrNoAnswer, []string{"correct the user and password in HTTP_PROXY"}},
		{"plain 403", httptest.NewServer, status(403), user, ErrBlocked, []string{"status 403 Forbidden, through proxy ", "this answer is not Polar's"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			proxy := newForwardProxy(t, tt.step, tt.step)
			log, logged := observed(t)
			o := proxied(t, polarServer(t, tt.start), proxy.URL, tt.user)
			o.Log = log
			_, err := newClient(t, o).List(t.Context(), ListParams{})
			if !errors.Is(err, tt.is) || errors.Is(err, ErrScopeMissing) || errors.Is(err, ErrTokenRejected) {
				t.Fatalf("%v is not %v", err, tt.is)
			}
			if n := proxy.requests.Load(); n != 1 || logged() != "" {
				t.Errorf("%d requests; log: %s", n, logged())
			}
			assertNames(t, err.Error(), append(tt.says, "organization acme", proxy.Listener.Addr().String())...)
		})
	}
}

func TestProxysPassingTroubleIsRetriedAndNamesTheProxy(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name  string
		start func(http.Handler) *httptest.Server
		step  http.HandlerFunc
		says  string
	}{
		{"CONNECT 502", httptest.NewTLSServer, status(502), "(HTTPS_PROXY) did not reach 127.0.0.1:"},
		{"CONNECT 503", httptest.NewTLSServer, status(503), "status 503 Service Unavailable"},
		{"CONNECT 504", httptest.NewTLSServer, status(504), "status 504 Gateway Timeout"},
		{"CONNECT 429", httptest.NewTLSServer, status(429), "status 429"},
		{"CONNECT cut", httptest.NewTLSServer, hangUp, "(HTTPS_PROXY): unexpected EOF"},
		{"plain 502", httptest.NewServer, status(502), "502 Bad Gateway, through proxy "},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			steps := []http.HandlerFunc{tt.step, tt.step}
			if tt.name == "plain 502" { // this proxy only tunnels
				steps = append(steps, func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, onePage) })
			}
			proxy := newForwardProxy(t, steps...)
			log, logged := observed(t)
			o := proxied(t, polarServer(t, tt.start), proxy.URL, url.UserPassword("operator", proxyPassword))
			o.Log = log
			c := newClient(t, o)
			var n Counters
			if _, err := c.Counting(&n).List(t.Context(), ListParams{}); err != nil || n.Retries.Load() != 2 || n.RateLimited.Load() != 0 {
				t.Errorf("%v after %d retries", err, n.Retries.Load())
			}
			assertNames(t, logged(), tt.says, proxy.Listener.Addr().String(), "request retried")
		})
	}
}

func TestProxyThatCannotBeReachedIsNamed(t *testing.T) {
	t.Parallel()
	gone := newForwardProxy(t)
	gone.Close()
	wait := func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }
	silent := newForwardProxy(t, slices.Repeat([]http.HandlerFunc{wait}, 100)...)
	for _, tt := range []struct {
		name, proxy string
		says        string
	}{
		{"nobody listens", gone.URL, "connection refused"},
		{"nobody answers", silent.URL, "no whole answer within "},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			o := proxied(t, polarServer(t, httptest.NewTLSServer), tt.proxy, url.UserPassword("operator", proxyPassword))
			o.Timeout, o.Retry.MaxElapsedTime = 100*time.Millisecond, time.Nanosecond
			_, err := newClient(t, o).List(t.Context(), ListParams{})
			if !errors.Is(err, ErrNoAnswer) {
				t.Fatal(err)
			}
			assertNames(t, err.Error(), tt.says, "through proxy "+strings.TrimPrefix(tt.proxy, "http://")+" (HTTPS_PROXY)")
		})
	}
}

func assertNames(t testing.TB, text string, parts ...string) {
	t.Helper()
	for _, part := range parts {
		if !strings.Contains(text, part) {
			t.Errorf("%q lacks %q", text, part)
		}
	}
	if strings.Contains(text, proxyPassword) || strings.Contains(text, "operator") {
		t.Errorf("%q shows the proxy's user or password", text)
	}
}
