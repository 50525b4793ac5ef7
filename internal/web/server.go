package web

import (
	"context"
	"net/http"
	"sync/atomic"
	"time"

	"go.uber.org/zap"
	"golang.org/x/sync/errgroup"
)

// shutdownTime is how long requests under way may go on after the end.
const shutdownTime = 3 * time.Second

// Options say where a Server listens and who may read.
type Options struct {
	Listen        string // host:port of everything; "" = none
	WebhookListen string // host:port of webhooks and health checks; "" = webhooks are on Listen
	Hosts         []string
	Access        Access
	Observer      Observer // nil: none
	Log           *zap.Logger
}

// An Observer is told what was answered, for metrics.
type Observer interface {
	// Served says that a request was answered. route is the pattern that it
	// matched, "none" if there is no such page: a value of few, never a path.
	Served(route string, status int, elapsed time.Duration)
}

// Handlers are what a Server answers with; nil ones are 404.
type Handlers struct {
	Page     http.Handler // GET below /
	Webhooks http.Handler // POST /webhooks/polar/{organization}; PathValue holds the name
	Metrics  http.Handler // GET /metrics
	Health   *Health      // required
}

// A Server listens from the start and answers health checks at once, so that a
// supervisor sees a process that is alive while the database is migrated. All
// else is 503 until Mount.
type Server struct {
	opts     Options
	main     *site // nil if off
	webhooks *site // nil if they are on main, or there are none
	handlers atomic.Pointer[Handlers]
}

// Listen takes the addresses. Errors are of type [*ListenError].
func Listen(ctx context.Context, o Options) (*Server, error) {
	if o.Log == nil {
		o.Log = zap.NewNop()
	}
	if o.Observer == nil {
		o.Observer = noObserver{}
	}
	s := &Server{opts: o}
	if o.Listen != "" {
		main, err := listenAt(ctx, "http.listen", o.Listen, o.Log)
		if err != nil {
			return nil, err
		}
		s.main = main
		s.equip(main, s.mainRoutes())
	}
	if o.WebhookListen != "" {
		webhooks, err := listenAt(ctx, "http.webhook_listen", o.WebhookListen, o.Log)
		if err != nil {
			s.Close()
			return nil, err
		}
		s.webhooks = webhooks
		s.equip(webhooks, s.webhookRoutes())
	}
	return s, nil
}

// equip puts what is common to all routes around them.
func (s *Server) equip(to *site, routes http.Handler) {
	to.server.Handler = s.observe(s.secure(routes))
}

// Mount begins to answer with h.
func (s *Server) Mount(h Handlers) { s.handlers.Store(&h) }

// URL is where this machine reaches the page, "" if it is off.
func (s *Server) URL() string { return s.main.url() }

// WebhookURL is where this machine reaches the webhooks' own listener, "" if
// they have none.
func (s *Server) WebhookURL() string { return s.webhooks.url() }

func (s *Server) sites() []*site {
	var sites []*site
	for _, each := range []*site{s.main, s.webhooks} {
		if each != nil {
			sites = append(sites, each)
		}
	}
	return sites
}

// Serve answers until ctx ends, and then gives requests under way a few seconds.
// Call it once. An error is a listener that broke.
func (s *Server) Serve(ctx context.Context) error {
	group, ctx := errgroup.WithContext(ctx)
	for _, each := range s.sites() {
		group.Go(each.serve)
	}
	group.Go(func() error {
		<-ctx.Done()
		s.Close()
		return nil
	})
	return group.Wait()
}

// Close ends the listeners as the end of Serve's context does.
func (s *Server) Close() {
	var group errgroup.Group
	for _, each := range s.sites() {
		group.Go(func() error {
			each.shutdown(shutdownTime)
			return nil
		})
	}
	_ = group.Wait() // the functions return nil
}

// noObserver is the Observer of a server that has none.
type noObserver struct{}

func (noObserver) Served(string, int, time.Duration) {}
