// Package heartbeat calls an address while all is well, so that a watchdog
// elsewhere notices when it is not, or when nobody is left to say so.
//
// Its invariant: a beat is sent only after every configured organization has
// had a run succeed since the last beat of this process (or since its start),
// while none of them is failing. The database decides, so a run counts
// whichever replica did it; each replica sends the beat of a round once at
// most. The address, whose path is the key to the watchdog, is in
// no log and no error.
package heartbeat

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"time"

	"go.uber.org/zap"

	"polarmirror/internal/fetch"
	"polarmirror/internal/secret"
	"polarmirror/internal/store"
)

const (
	askTimeout  = 5 * time.Second
	sendTimeout = 10 * time.Second
	// every is the time between two looks.
	every = 2 * time.Second
	// retryAfter is how long after a failure, of the look or of the call, the
	// next attempt is made.
	retryAfter = 30 * time.Second
)

// Options are what a Pulse needs.
type Options struct {
	URL       secret.Secret
	UserAgent string
	Status    func(context.Context) ([]store.OrgStatus, error) // of every configured organization
	Sent      func(ok bool)                                    // told of each call
	Log       *zap.Logger
}

// A Pulse sends heartbeats.
type Pulse struct {
	opts   Options
	client *http.Client
	last   map[string]int64 // number of each organization's last successful run as of the last beat
}

// New makes a Pulse.
func New(o Options) *Pulse {
	return &Pulse{opts: o, client: &http.Client{
		Transport: fetch.NewTransport(), // names a proxy that is in the way
		Timeout:   sendTimeout,
		// To follow a redirect is to tell another server, in the header
		// Referer, the address that nobody should know.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}
}

// Run sends a beat after each round until ctx ends. What had succeeded when it
// began does not count.
func (p *Pulse) Run(ctx context.Context) error {
	for {
		wait := every
		if err := p.round(ctx); err != nil && ctx.Err() == nil {
			p.opts.Log.Warn("no heartbeat", zap.Error(err))
			wait = retryAfter
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(wait):
		}
	}
}

// round sends a beat if one is due, and notes what had succeeded by then. The first
// one only notes.
func (p *Pulse) round(ctx context.Context) error {
	asking, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	list, err := p.opts.Status(asking)
	if err != nil {
		return err
	}
	if p.last != nil {
		if !p.due(list) {
			return nil
		}
		if err := p.Send(ctx); err != nil {
			return err
		}
	}
	p.last = make(map[string]int64, len(list))
	for _, s := range list {
		p.last[s.Organization] = s.LastSuccessID()
	}
	return nil
}

// due reports whether all have succeeded since the last beat. A clock that was
// ahead dates runs later than those that follow; their numbers grow all the same,
// unless a backup of the database was restored.
func (p *Pulse) due(list []store.OrgStatus) bool {
	due := len(list) > 0
	for _, s := range list {
		last := min(p.last[s.Organization], s.LastSuccessID())
		p.last[s.Organization] = last
		due = due && !s.Failing() && s.LastSuccessID() > last
	}
	return due
}

// Send calls the address once. An error does not name it.
func (p *Pulse) Send(ctx context.Context) (err error) {
	defer func() { p.opts.Sent(err == nil) }()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, p.opts.URL.Reveal(), http.NoBody)
	if err != nil {
		return errors.New("heartbeat_url is no address")
	}
	request.Header.Set("User-Agent", p.opts.UserAgent)
	response, err := p.client.Do(request)
	if err != nil {
		return fmt.Errorf("call heartbeat_url: %w", cause(err))
	}
	defer response.Body.Close() //nolint:errcheck // nothing is lost by it
	if response.StatusCode/100 != 2 {
		return fmt.Errorf("call heartbeat_url: status %d, want 2xx (redirects are not followed)", response.StatusCode)
	}
	return nil
}

// cause is why a call failed, without the address that errors of net/http
// repeat.
func cause(err error) error {
	var timeout net.Error
	var op *net.OpError
	var proxy *fetch.ProxyError
	switch {
	case errors.As(err, &proxy) && proxy.Err != nil:
		return &fetch.ProxyError{Proxy: proxy.Proxy, Variable: proxy.Variable, Err: cause(proxy.Err)}
	case proxy != nil:
		return proxy
	case errors.As(err, &timeout) && timeout.Timeout():
		return errors.New("no answer in time")
	case errors.As(err, &op):
		return op.Err
	}
	return errors.New("the connection failed")
}
