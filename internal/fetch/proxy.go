package fetch

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
)

// A Transport is net/http's, except that an error names the proxy that the
// request was sent to, and that a proxy's own refusal is an error and no answer.
type Transport struct{ *http.Transport }

// A ProxyError is a request that a proxy did not pass on, or that failed
// somewhere beyond it. Its text holds no user, password or path.
type ProxyError struct {
	Proxy    string // host and port
	Variable string // of the environment, which names the proxy
	Target   string // the server that was asked for
	Status   int    // the proxy's own; 0 if it gave none
	Cure     string // for a status
	Err      error  // without a status, what failed
}

// Error says which proxy, what happened, and what to do.
func (e *ProxyError) Error() string {
	switch {
	case e.Status == 0:
		return fmt.Sprintf("through proxy %s (%s): %v", e.Proxy, e.Variable, e.Err)
	case e.Refused():
		return fmt.Sprintf("proxy %s (%s) refused access to %s: status %s; %s", e.Proxy, e.Variable, e.Target, statusText(e.Status), e.Cure)
	}
	return fmt.Sprintf("proxy %s (%s) did not reach %s: status %s", e.Proxy, e.Variable, e.Target, statusText(e.Status))
}

// Unwrap returns what failed, nil for a status.
func (e *ProxyError) Unwrap() error { return e.Err }

// Refused reports whether the proxy's answer will be the same next time.
func (e *ProxyError) Refused() bool {
	passing := []int{
		http.StatusRequestTimeout, http.StatusTooEarly, http.StatusTooManyRequests, http.StatusInternalServerError,
		http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout,
	}
	return e.Status != 0 && !slices.Contains(passing, e.Status)
}

// RoundTrip sends a request.
func (t *Transport) RoundTrip(request *http.Request) (*http.Response, error) {
	response, err := t.Transport.RoundTrip(request)
	var known *ProxyError
	if errors.As(err, &known) || err == nil && response.StatusCode != http.StatusProxyAuthRequired {
		return response, err
	}
	proxy := t.proxyOf(request)
	switch {
	case proxy == nil:
		return response, err
	case err != nil:
		return nil, newProxyError(proxy, request.URL.Scheme, "", err)
	}
	_ = response.Body.Close()
	return nil, proxyStatus(proxy, request.URL.Scheme, request.URL.Host, response)
}

// proxyOf returns the proxy that a request is sent to, nil if there is none.
func (t *Transport) proxyOf(request *http.Request) *url.URL {
	if t.Proxy == nil {
		return nil
	}
	proxy, err := t.Proxy(request)
	if err != nil {
		return nil // and the request has failed for it
	}
	return proxy
}

// onConnectResponse makes an error of every answer to CONNECT but 200. Without
// it net/http's error is the status's text alone, such as "Forbidden".
func onConnectResponse(_ context.Context, proxy *url.URL, connect *http.Request, response *http.Response) error {
	if response.StatusCode == http.StatusOK {
		return nil
	}
	return proxyStatus(proxy, "https", connect.Host, response)
}

// proxyStatus is the error of an answer that is the proxy's own.
func proxyStatus(proxy *url.URL, scheme, target string, response *http.Response) *ProxyError {
	e := newProxyError(proxy, scheme, target, nil)
	e.Status = response.StatusCode
	challenges := strings.ToLower(strings.Join(response.Header.Values("Proxy-Authenticate"), ","))
	switch {
	case e.Status != http.StatusProxyAuthRequired:
		e.Cure = fmt.Sprintf("have the proxy allow it, or correct %s or NO_PROXY", e.Variable)
	case challenges != "" && !strings.Contains(challenges, "basic"):
		e.Cure = "the proxy does not offer basic authentication, the only kind that syncd supports: have it let this machine through"
	case proxy.User != nil:
		e.Cure = fmt.Sprintf("correct the user and password in %s", e.Variable)
	default:
		e.Cure = fmt.Sprintf("add the proxy's user and password to %s, as in http://user:password@host:port", e.Variable)
	}
	return e
}

func newProxyError(proxy *url.URL, scheme, target string, err error) *ProxyError {
	return &ProxyError{
		Proxy:    sanitize(proxy.Host, maxWord),
		Variable: strings.ToUpper(scheme) + "_PROXY",
		Target:   sanitize(target, maxWord),
		Err:      err,
	}
}

func statusText(status int) string {
	return strings.TrimSpace(fmt.Sprintf("%d %s", status, http.StatusText(status)))
}
