package fetch

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"polarmirror/internal/polar"
	"polarmirror/internal/secret"
)

// maxBody bounds a body, decompressed, in bytes. A page of 100 customer meters
// has 0.2 MiB.
const maxBody = 32 << 20

// keptBuffer is the size up to which a buffer is kept for the next body, in bytes.
const keptBuffer = 4 << 20

// A call is one request, whatever the number of attempts.
type call struct {
	path    string
	query   url.Values
	page    int                     // 0 if it is no list call
	sent    int                     // attempts so far, the one under way included
	timeout time.Duration           // of one attempt; grows with each that it ends
	decode  func(body []byte) error // keeps nothing of body; a *polar.ShapeError if it is no answer
}

// attempt sends one request and reads its answer to the end.
func (c *Client) attempt(ctx context.Context, call *call, token secret.Secret) (Timing, *failure) {
	ctx, cancel := context.WithTimeoutCause(ctx, call.timeout, errTimeout{call.timeout})
	defer cancel()
	c.counters.Requests.Add(1)
	request, err := c.request(context.WithValue(ctx, clientKey{}, c), call, token)
	if err != nil {
		return Timing{}, &failure{err: err}
	}
	x := Timing{Began: time.Now()}
	response, err := c.http.Do(request)
	if err != nil {
		return x, c.noAnswer(ctx, call, token, err)
	}
	defer response.Body.Close() //nolint:errcheck // nothing is lost by it
	buffer, _ := c.buffers.Get().(*bytes.Buffer)
	if buffer == nil {
		buffer = new(bytes.Buffer)
	}
	defer func() {
		if buffer.Cap() <= keptBuffer {
			c.buffers.Put(buffer)
		}
	}()
	err = readBody(buffer, response)
	body := buffer.Bytes()
	x.Elapsed = time.Since(x.Began)
	x.ServerTime = x.Began.UTC().Truncate(time.Second)
	if date, err := http.ParseTime(response.Header.Get("Date")); err == nil {
		x.ServerTime = date
	}
	if err != nil && !errors.Is(err, errTooLarge) {
		return x, c.noAnswer(ctx, call, token, fmt.Errorf("status %d, but the body was cut: %w", response.StatusCode, err))
	}
	if response.StatusCode != http.StatusOK {
		err = nil // what is too large is not shown, and the status says enough
	} else if err == nil {
		err = call.decode(body)
	}
	if err != nil || response.StatusCode != http.StatusOK {
		return x, c.badAnswer(call, token, response, body, x.ServerTime, err)
	}
	return x, nil
}

// request makes the HTTP request of call.
func (c *Client) request(ctx context.Context, call *call, token secret.Secret) (*http.Request, error) {
	u := *c.base
	u.Path += call.path
	u.RawQuery = call.query.Encode()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), http.NoBody)
	if err != nil {
		return nil, fmt.Errorf("organization %s: request %s: %w", c.opts.Organization, call.path, err)
	}
	request.Header.Set("Accept", "application/json")
	request.Header.Set("Authorization", "Bearer "+token.Reveal())
	request.Header.Set("Polar-Version", c.opts.APIVersion)
	request.Header.Set("User-Agent", c.opts.UserAgent)
	return request, nil
}

// readBody reads the whole body into an empty buffer. An error means that it was cut or
// is too large.
func readBody(into *bytes.Buffer, response *http.Response) error {
	into.Reset()
	if n := response.ContentLength; n > 0 && n <= maxBody {
		into.Grow(int(n) + bytes.MinRead) // spares reading its end from growing it
	}
	n, err := into.ReadFrom(io.LimitReader(response.Body, maxBody+1))
	switch {
	case err != nil:
		return err
	case n > maxBody:
		return errTooLarge
	case response.ContentLength >= 0 && n != response.ContentLength:
		return fmt.Errorf("%d of %d bytes: %w", n, response.ContentLength, io.ErrUnexpectedEOF)
	}
	return nil
}

// noAnswer makes the failure of a request without a whole answer.
func (c *Client) noAnswer(ctx context.Context, call *call, token secret.Secret, err error) *failure {
	var redirect *RedirectError
	var outer *url.Error
	begun := true // the answer, of which a part is missing
	if errors.As(err, &outer) {
		begun = false
		err = outer.Err // without the URL, whose query is long and personal
	}
	class := connectionClass(err, begun || c.opts.Retry.RetryConnectionErrors)
	var timeout errTimeout
	if errors.As(context.Cause(ctx), &timeout) {
		var proxy *ProxyError
		if errors.As(err, &proxy) {
			late := *proxy
			late.Err = timeout
			err = &late
		} else {
			err = timeout
		}
		class = transient
	}
	if errors.As(err, &redirect) {
		class = fatal
		*redirect = RedirectError{From: redirect.From, To: withoutToken(redirect.To, token)}
	}
	return &failure{class: class, err: &RequestError{
		Organization: c.opts.Organization,
		BaseURL:      c.base.String(),
		Path:         call.path,
		Attempts:     call.sent,
		Err:          &shownError{text: sanitize(withoutToken(err.Error(), token), maxDetail), err: err},
	}}
}

// connectionClass parts connection errors that pass from those that a wrong
// address causes.
func connectionClass(err error, retry bool) class {
	var dns *net.DNSError
	var certificate *tls.CertificateVerificationError
	var record tls.RecordHeaderError
	var proxy *ProxyError
	switch {
	case !retry, errors.Is(err, errManyRedirects), errors.As(err, &proxy) && proxy.Refused():
		return fatal
	case errors.As(err, &dns) && dns.IsNotFound, errors.As(err, &certificate), errors.As(err, &record),
		errors.Is(err, http.ErrSchemeMismatch):
		return misdirected
	}
	return transient
}

// badAnswer makes the failure of a whole answer that is of no use; err is what
// is wrong with the body, nil if it is the status.
func (c *Client) badAnswer(call *call, token secret.Secret, response *http.Response, body []byte, now time.Time, err error) *failure {
	e := &StatusError{
		Organization: c.opts.Organization,
		BaseURL:      c.base.String(),
		APIVersion:   c.opts.APIVersion,
		Path:         call.path,
		Status:       response.StatusCode,
		ContentType:  response.Header.Get("Content-Type"),
		Attempts:     call.sent,
		Err:          err,
	}
	if err == nil && response.StatusCode/100 == 2 {
		e.Err = errors.New("a status without a page")
	}
	if t, ok := c.http.Transport.(*Transport); ok {
		if proxy := t.proxyOf(response.Request); proxy != nil {
			e.Proxy = sanitize(proxy.Host, maxWord)
		}
	}
	e.describe(body, token, len(c.opts.Exclude) == 0)
	f := &failure{err: e, status: e.Status, class: statusClass(e.Status)}
	f.retryAfter = retryAfter(response.Header.Get("Retry-After"), now)
	var shape *polar.ShapeError
	switch {
	case errors.As(err, &shape), err == nil && e.Err != nil:
		f.class = misdirected
	case err != nil:
		f.class = fatal
	}
	return f
}

// statusClass is the class of a status other than 200.
func statusClass(status int) class {
	switch {
	case status == http.StatusUnauthorized:
		return unauthorized
	case status == http.StatusTooManyRequests:
		return rateLimited
	case status >= 500, status == http.StatusRequestTimeout, status == http.StatusTooEarly:
		return transient
	}
	return fatal
}

// retryAfter reads the header, seconds or a date. now is the server's own time, if
// the answer shows it.
func retryAfter(header string, now time.Time) time.Duration {
	if seconds, err := strconv.ParseUint(header, 10, 31); err == nil {
		return time.Duration(seconds) * time.Second
	}
	at, err := http.ParseTime(header)
	if err != nil {
		return 0
	}
	return max(0, at.Sub(now))
}

// maxTimeout is how far attempts that ran into their time-outs widen the next.
const maxTimeout = 5 * time.Minute

// widen makes the next attempt wait twice as long if f is a time-out: what is
// slow is seldom faster when it is asked again.
func (call *call) widen(f *failure) {
	var timeout errTimeout
	if errors.As(f.err, &timeout) {
		call.timeout = max(call.timeout, min(2*call.timeout, maxTimeout))
	}
}

// errTimeout is an attempt's time-out.
type errTimeout struct{ after time.Duration }

func (e errTimeout) Error() string { return fmt.Sprintf("no whole answer within %s", e.after) }

// A shownError shows a text fit for logs instead of its cause's own.
type shownError struct {
	text string
	err  error
}

func (e *shownError) Error() string { return e.text }
func (e *shownError) Unwrap() error { return e.err }
