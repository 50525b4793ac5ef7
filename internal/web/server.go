package web

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"sync"
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
	var err error
	if o.Listen != "" {
		if s.main, err = listenAt(ctx, "http.listen", o.Listen, o.Log); err != nil {
			return nil, err
		}
		s.main.server.Handler = s.middleware(s.mainRoutes())
	}
	if o.WebhookListen != "" {
		if s.webhooks, err = listenAt(ctx, "http.webhook_listen", o.WebhookListen, o.Log); err != nil {
			s.Close()
			return nil, err
		}
		mux := http.NewServeMux()
		s.addHealth(mux, s.webhooks)
		s.addWebhooks(mux)
		s.webhooks.server.Handler = s.middleware(mux)
	}
	return s, nil
}

// Mount begins to answer with h.
func (s *Server) Mount(h Handlers) { s.handlers.Store(&h) }

// URL is where this machine reaches the page, "" if it is off.
func (s *Server) URL() string { return s.main.url() }

// WebhookURL is where this machine reaches the webhooks' own listener, "" if
// they have none.
func (s *Server) WebhookURL() string { return s.webhooks.url() }

// Serve answers until ctx ends, and then gives requests under way a few seconds.
// Call it once. An error is a listener that broke.
func (s *Server) Serve(ctx context.Context) error {
	group, ctx := errgroup.WithContext(ctx)
	group.Go(s.main.serve)
	group.Go(s.webhooks.serve)
	group.Go(func() error {
		<-ctx.Done()
		s.Close()
		return nil
	})
	return group.Wait()
}

// Close ends the listeners as the end of Serve's context does.
func (s *Server) Close() {
	var closing sync.WaitGroup
	closing.Go(func() { s.main.shutdown(shutdownTime) })
	closing.Go(func() { s.webhooks.shutdown(shutdownTime) })
	closing.Wait()
}

// noObserver is the Observer of a server that has none.
type noObserver struct{}

func (noObserver) Served(string, int, time.Duration) {}

// mainRoutes are those of http.listen.
func (s *Server) mainRoutes() http.Handler {
	mux := http.NewServeMux()
	s.addHealth(mux, s.main)
	guarded := func(pick func(*Handlers) http.Handler) http.Handler {
		return knownHost(s.main, s.opts.Hosts, s.opts.Access.guard(s.mounted(pick), s.opts.Log))
	}
	mux.Handle("GET /metrics", guarded(func(h *Handlers) http.Handler { return h.Metrics }))
	mux.Handle("GET /", guarded(func(h *Handlers) http.Handler { return h.Page }))
	if s.opts.WebhookListen == "" {
		s.addWebhooks(mux)
	}
	return mux
}

// addHealth adds the health checks. Whoever may ask whether syncd is alive and
// ready may do so by any name; the ages name the organizations.
func (s *Server) addHealth(mux *http.ServeMux, at *site) {
	health := func(answer func(*Health) http.HandlerFunc) http.Handler {
		return s.mounted(func(h *Handlers) http.Handler { return answer(h.Health) })
	}
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) {
		answerJSON(w, http.StatusOK, map[string]bool{"alive": true})
	})
	mux.Handle("GET /readyz", health(func(h *Health) http.HandlerFunc { return h.readyz }))
	mux.Handle("GET /healthz/data", knownHost(at, s.opts.Hosts, health(func(h *Health) http.HandlerFunc { return h.data })))
}

// addWebhooks adds the webhook endpoint. It may be called by any host name, and
// trusts nobody but by signature.
func (s *Server) addWebhooks(mux *http.ServeMux) {
	webhooks := s.mounted(func(h *Handlers) http.Handler { return h.Webhooks })
	// Polar's documentation advises a slash at the end where deliveries get redirects.
	for _, pattern := range []string{webhookPattern, webhookPattern + "/{$}"} {
		mux.Handle("POST "+pattern, webhooks)
		mux.Handle("GET "+pattern, webhooks) // says 405, where the page would say 404
	}
}

// mounted answers with a handler that may not be there yet, or not at all.
func (s *Server) mounted(pick func(*Handlers) http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := s.handlers.Load()
		if h == nil {
			w.Header().Set("Retry-After", "2")
			answerJSON(w, http.StatusServiceUnavailable, notReady{Reason: "starting: the database is being opened and migrated"})
			return
		}
		if handler := pick(h); handler != nil {
			handler.ServeHTTP(w, r)
			return
		}
		http.NotFound(w, r)
	})
}

// answerJSON writes one line.
func answerJSON(w http.ResponseWriter, status int, v any) {
	body, err := json.Marshal(v)
	if err != nil { // impossible for our types
		status, body = http.StatusInternalServerError, []byte(`{}`)
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_, _ = w.Write(append(body, '\n')) // who asked may be gone
}

// answerText writes a line for people.
func answerText(w http.ResponseWriter, status int, format string, args ...any) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.WriteHeader(status)
	_, _ = fmt.Fprintf(w, format+"\n", args...) // who asked may be gone
}
