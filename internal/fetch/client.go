package fetch

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strings"
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
	defaultUserAgent  = "syncd"
)

// Options says whom to ask and how. Organization, BaseURL and Token are
// required.
type Options struct {
	Organization string        // label for errors and logs
	BaseURL      string        // such as https://api.polar.sh; http only on loopback
	APIVersion   string        // sent as Polar-Version
	UserAgent    string        // names the program and its version
	Token        TokenSource   // the organization's access token
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
	organization string
	base         *url.URL
	version      string
	agent        string
	token        TokenSource
	timeout      time.Duration
	retry        Retry
	limiters     *Limiters
	log          *zap.Logger
	http         *http.Client
	buffers      *sync.Pool // of *bytes.Buffer, for bodies
	exclude      []string
	decoder      *polar.Decoder
	counters     *Counters
	observer     Observer
}

// Counters count what a client, or a copy of it made by Counting, asked for.
type Counters struct {
	Requests    atomic.Int64 // requests sent, whatever came of them, redirects followed included
	Retries     atomic.Int64 // requests sent again after a failure other than 429
	RateLimited atomic.Int64 // answers 429
}

// New checks the options. It sends nothing.
func New(o Options) (*Client, error) {
	base, err := parseBaseURL(o.BaseURL)
	if err != nil {
		return nil, fmt.Errorf("organization %s: base_url: %w", o.Organization, err)
	}
	if o.Token == nil {
		return nil, fmt.Errorf("organization %s: no access token", o.Organization)
	}
	retry, err := o.Retry.withDefaults()
	if err != nil {
		return nil, fmt.Errorf("organization %s: retry: %w", o.Organization, err)
	}
	c := &Client{
		organization: o.Organization,
		base:         base,
		version:      orDefault(o.APIVersion, defaultAPIVersion),
		agent:        orDefault(o.UserAgent, defaultUserAgent),
		token:        o.Token,
		timeout:      orDefault(o.Timeout, defaultTimeout),
		retry:        retry,
		limiters:     orDefault(o.Limiters, NewLimiters(0)),
		log:          orDefault(o.Log, zap.NewNop()),
		buffers:      new(sync.Pool),
		exclude:      o.Exclude,
		decoder:      polar.NewDecoder(o.Exclude...),
		counters:     new(Counters),
		observer:     o.Observer,
	}
	if c.observer == nil {
		c.observer = noObserver{}
	}
	transport := o.Transport
	if transport == nil {
		transport = NewTransport()
	}
	// The client has no timeout of its own: each attempt's context has one.
	c.http = &http.Client{Transport: transport, CheckRedirect: checkRedirect}
	return c, nil
}

// Counting returns a copy of c that counts into n instead.
func (c *Client) Counting(n *Counters) *Client {
	counting := *c
	counting.counters = n
	return &counting
}

// Interval is how far apart the client's requests are sent if no other client
// shares its token; 0 if there is no limit.
func (c *Client) Interval() time.Duration { return c.limiters.Interval() }

func orDefault[T comparable](v, otherwise T) T {
	var zero T
	if v == zero {
		return otherwise
	}
	return v
}

// parseBaseURL refuses what would send a token in the clear or to an address
// that nobody meant.
func parseBaseURL(text string) (*url.URL, error) {
	u, err := url.Parse(text)
	if err != nil {
		// The parser's error quotes the whole URL, which may hold a password.
		return nil, errors.New("no URL; it should look like https://api.polar.sh")
	}
	switch {
	case u.Scheme != "https" && u.Scheme != "http" || u.Hostname() == "":
		return nil, errors.New("should look like https://api.polar.sh")
	case u.User != nil || u.RawQuery != "" || u.Fragment != "":
		return nil, errors.New("must have no user, query or fragment")
	case u.Scheme == "http" && !loopback(u.Hostname()):
		return nil, errors.New("http would send the access token in the clear; use https (http is for loopback)")
	}
	u.Path = strings.TrimRight(u.Path, "/")
	return u, nil
}

func loopback(host string) bool {
	ip := net.ParseIP(host)
	return strings.EqualFold(host, "localhost") || ip != nil && ip.IsLoopback()
}
