// Package heartbeat calls an address while all is well, so that a watchdog
// elsewhere notices when it is not, or when nobody is left to say so.
//
// Its invariant: a beat is sent only after every configured organization has
// had a run succeed since the last beat of this process (or since its start),
// while none of them is failing. The database decides, so a run counts
// whichever replica did it; each replica whose runs end sends the beat of a
// round once at most. The address, whose path is the key to the watchdog, is in
// no log and no error.
package heartbeat

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"time"

	"go.uber.org/zap"

	"polarmirror/internal/fetch"
	"polarmirror/internal/secret"
	"polarmirror/internal/store"
)

const (
	askTimeout  = 5 * time.Second
	sendTimeout = 10 * time.Second
	// between is the least time between two looks: many runs end together.
	between = time.Second
	// retryAfter is how long after a failure, of the look or of the call, the
	// next attempt is made.
	retryAfter = 30 * time.Second
)

// Options are what a Pulse needs.
type Options struct {
	URL       secret.Secret
	UserAgent string
	// Status tells about every configured organization.
	Status    func(context.Context) ([]store.OrgStatus, error)
	Observer  Observer          // nil: none
	Transport http.RoundTripper // nil: fetch's, which names a proxy that is in the way
	Log       *zap.Logger       // nil: none
}

// An Observer is told of each call.
type Observer interface {
	Beat(sent bool)
}

// A Pulse sends heartbeats.
type Pulse struct {
	opts   Options
	client *http.Client
	host   string // for the log
	woken  chan struct{}
	last   map[string]int64 // number of each organization's last successful run as of the last beat
}

// New makes a Pulse.
func New(o Options) *Pulse {
	if o.Log == nil {
		o.Log = zap.NewNop()
	}
	if o.Transport == nil {
		o.Transport = fetch.NewTransport()
	}
	p := &Pulse{opts: o, woken: make(chan struct{}, 1)}
	if u, err := url.Parse(o.URL.Reveal()); err == nil {
		p.host = u.Hostname()
	}
	p.client = &http.Client{
		Transport: o.Transport,
		// To follow a redirect is to tell another server, in the header
		// Referer, the address that nobody should know.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	return p
}

// Wake says that a run has succeeded. It never blocks.
func (p *Pulse) Wake() {
	select {
	case p.woken <- struct{}{}:
	default:
	}
}

// Begin notes what has succeeded before: only what succeeds from now on counts.
// Call it before the first run.
func (p *Pulse) Begin(ctx context.Context) {
	list, err := p.look(ctx)
	if err != nil {
		p.opts.Log.Warn("heartbeat begins with the next round", zap.Error(err))
		return
	}
	p.note(list)
}

// Run sends a beat after each round until ctx ends.
func (p *Pulse) Run(ctx context.Context) {
	retry := time.NewTimer(0)
	retry.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-p.woken:
		case <-retry.C:
		}
		pause := between
		if err := p.round(ctx); err != nil && ctx.Err() == nil {
			p.opts.Log.Warn("no heartbeat", zap.String("host", p.host), zap.Error(err))
			pause = retryAfter
			retry.Reset(retryAfter)
		}
		if sleep(ctx, pause) != nil {
			return
		}
	}
}

// round sends a beat if one is due.
func (p *Pulse) round(ctx context.Context) error {
	list, err := p.look(ctx)
	if err != nil {
		return err
	}
	if p.last == nil {
		p.note(list)
		return nil
	}
	if !p.due(list) {
		return nil
	}
	if err := p.Send(ctx); err != nil {
		return err
	}
	p.note(list)
	return nil
}

func (p *Pulse) look(ctx context.Context) ([]store.OrgStatus, error) {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	return p.opts.Status(ctx)
}

func (p *Pulse) note(list []store.OrgStatus) {
	p.last = make(map[string]int64, len(list))
	for _, s := range list {
		p.last[s.Organization] = s.LastSuccessID()
	}
}

// due reports whether all have succeeded since the last beat. A clock that was
// ahead dates runs later than those that follow; their numbers grow all the same.
func (p *Pulse) due(list []store.OrgStatus) bool {
	for _, s := range list {
		if s.Failing() || s.LastSuccessID() <= p.last[s.Organization] {
			return false
		}
	}
	return len(list) > 0
}

// Send calls the address once. An error does not name it.
func (p *Pulse) Send(ctx context.Context) error {
	err := p.send(ctx)
	if p.opts.Observer != nil {
		p.opts.Observer.Beat(err == nil)
	}
	return err
}

func (p *Pulse) send(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, sendTimeout)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, p.opts.URL.Reveal(), http.NoBody)
	if err != nil {
		return errors.New("heartbeat_url is no address")
	}
	if p.opts.UserAgent != "" {
		request.Header.Set("User-Agent", p.opts.UserAgent)
	}
	response, err := p.client.Do(request)
	if err != nil {
		return fmt.Errorf("call heartbeat_url: %w", cause(ctx, err))
	}
	defer response.Body.Close() //nolint:errcheck // nothing is lost by it
	_, _ = io.Copy(io.Discard, io.LimitReader(response.Body, 64<<10))
	if response.StatusCode/100 != 2 {
		return fmt.Errorf("call heartbeat_url: status %d, want 2xx (redirects are not followed)", response.StatusCode)
	}
	return nil
}

// cause is why a call failed, without the address that errors of net/http
// repeat.
func cause(ctx context.Context, err error) error {
	var dns *net.DNSError
	var op *net.OpError
	var proxy *fetch.ProxyError
	switch {
	case errors.As(err, &proxy) && proxy.Err != nil:
		return &fetch.ProxyError{Proxy: proxy.Proxy, Variable: proxy.Variable, Err: cause(ctx, proxy.Err)}
	case proxy != nil:
		return proxy
	case ctx.Err() != nil:
		return fmt.Errorf("no answer: %w", ctx.Err())
	case errors.As(err, &dns):
		return errors.New("host not found")
	case errors.As(err, &op):
		return op.Err
	}
	return errors.New("the connection failed")
}

func sleep(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return nil
	}
}
