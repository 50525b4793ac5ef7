package fetch

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"time"
)

// idleConnections is how many connections to one server are kept open for the
// next requests: more than the requests that are ever in flight side by side,
// so that none is opened anew for want of a place.
const idleConnections = 128

// NewTransport returns a transport that clients of one process can share. It
// takes a proxy from the environment (HTTPS_PROXY and its kin).
func NewTransport() *Transport {
	dialer := &net.Dialer{Timeout: 10 * time.Second, KeepAlive: 15 * time.Second}
	return &Transport{&http.Transport{
		Proxy:                  http.ProxyFromEnvironment,
		OnProxyConnectResponse: onConnectResponse,
		DialContext:            dialer.DialContext,
		TLSHandshakeTimeout:    10 * time.Second,
		ExpectContinueTimeout:  time.Second,
		MaxIdleConns:           2 * idleConnections,
		MaxIdleConnsPerHost:    idleConnections,
		IdleConnTimeout:        90 * time.Second,
		ForceAttemptHTTP2:      true,
		// One HTTP/2 connection carries all requests; should it die silently,
		// they would all wait for their time-outs, and the next ones too.
		HTTP2: &http.HTTP2Config{SendPingTimeout: 15 * time.Second, PingTimeout: 10 * time.Second},
	}}
}

// maxRedirects is how many redirects one request follows.
const maxRedirects = 5

// A RedirectError is a redirect that was not followed, since the access token
// must not go where nobody configured it to go.
type RedirectError struct {
	From, To string // scheme and host
}

func (e *RedirectError) Error() string {
	return fmt.Sprintf("redirected from %s to %s, not followed: the access token is sent to base_url alone; "+
		"if Polar has moved there, set polar.base_url to %s", e.From, e.To, e.To)
}

var errManyRedirects = errors.New("redirected too often")

// checkRedirect follows redirects within one server. Such a redirect is a
// request that Polar counts, so it is counted here too.
func checkRedirect(next *http.Request, via []*http.Request) error {
	from := via[0].URL
	if next.URL.Scheme != from.Scheme || next.URL.Host != from.Host {
		return &RedirectError{From: origin(from), To: origin(next.URL)}
	}
	if len(via) > maxRedirects {
		return errManyRedirects
	}
	if c, ok := next.Context().Value(clientKey{}).(*Client); ok {
		c.counters.Requests.Add(1)
		c.opts.Observer.Requested(c.opts.Organization, Redirected, 0)
	}
	return nil
}

// clientKey is where an attempt's context holds its Client.
type clientKey struct{}

func origin(u *url.URL) string { return sanitize(u.Scheme+"://"+u.Host, 100) }
