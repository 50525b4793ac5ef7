package fetch

import (
	"cmp"
	"fmt"
	"net/http"
	"net/url"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"polarmirror/internal/polar"
)

// Defaults for options left zero; the same as the configuration's.
const (
	defaultTimeout    = 30 * time.Second
	defaultAPIVersion = "2026-10"
)

// Options says whom to ask and how. Organization, BaseURL and Token are
// required.
type Options struct {
	Organization string        // label for errors and logs
	BaseURL      string        // such as https://api.polar.sh
	APIVersion   string        // sent as Polar-Version
	UserAgent    string        // names the program and its version
	Token        *Token        // the organization's access token
	Exclude      []string      // members of customers that are not decoded, nor shown in errors
	Timeout      time.Duration // one request, from sending it to the end of its answer; 0 is 30 s
	Retry        Retry
	Limiters     *Limiters         // shared by all clients of the process; nil: no pacing
	Log          *zap.Logger       // nil: no logs
	Observer     Observer          // nil: none
	Transport    http.RoundTripper // nil: a transport of the client's own
}

// A Client asks one server on behalf of one organization. It is safe for
// concurrent use.
type Client struct {
	opts     Options // with their defaults
	base     *url.URL
	http     *http.Client
	buffers  *sync.Pool // of *bytes.Buffer, for bodies
	decoder  *polar.Decoder
	counters *Counters
}

// Counters count what a client, or a copy of it made by Counting, asked for.
type Counters struct {
	Requests    atomic.Int64 // requests sent, whatever came of them, redirects followed included
	Retries     atomic.Int64 // requests sent again after a failure other than 429
	RateLimited atomic.Int64 // answers 429
}

// New sends nothing.
func New(o Options) (*Client, error) {
	base, err := url.Parse(o.BaseURL)
	if err != nil {
		return nil, fmt.Errorf("organization %s: base_url is no URL", o.Organization) // err quotes it
	}
	o.APIVersion = cmp.Or(o.APIVersion, defaultAPIVersion)
	o.Timeout = cmp.Or(o.Timeout, defaultTimeout)
	o.Retry = o.Retry.withDefaults()
	o.Limiters = cmp.Or(o.Limiters, NewLimiters(0))
	o.Log = cmp.Or(o.Log, zap.NewNop())
	o.Observer = cmp.Or[Observer](o.Observer, noObserver{})
	o.Transport = cmp.Or[http.RoundTripper](o.Transport, NewTransport())
	return &Client{
		opts: o,
		base: base,
		// It has no timeout of its own: each attempt's context has one.
		http:     &http.Client{Transport: o.Transport, CheckRedirect: checkRedirect},
		buffers:  new(sync.Pool),
		decoder:  polar.NewDecoder(o.Exclude...),
		counters: new(Counters),
	}, nil
}

// Counting returns a copy of c that counts into n instead.
func (c *Client) Counting(n *Counters) *Client {
	counting := *c
	counting.counters = n
	return &counting
}

// Interval is how far apart the client's requests are sent if no other client
// shares its token; 0 if there is no limit.
func (c *Client) Interval() time.Duration { return c.opts.Limiters.Interval() }
