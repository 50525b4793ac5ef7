package web

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"time"

	"go.uber.org/zap"
	"golang.org/x/sync/errgroup"

	"polarmirror/internal/config"
)

// shutdownTime is how long requests under way may go on after the end.
const shutdownTime = 3 * time.Second

// Options say where a Server listens and who may read.
type Options struct {
	HTTP config.HTTP
	// Observe is told of every answer, for metrics. route is the pattern that the
	// request matched, "none" if there is no such page: a value of few, never a path.
	Observe func(route string, status int, elapsed time.Duration)
	Log     *zap.Logger
}

// Handlers are what a Server answers with.
type Handlers struct {
	Page     http.Handler // GET below /
	Webhooks http.Handler // POST /webhooks/polar/{organization}; PathValue holds the name
	Metrics  http.Handler // GET /metrics
	Health   *Health
}

// A Server listens from the start and answers health checks at once, so that a
// supervisor sees a process that is alive while the database is migrated. All
// else is 503 until Mount.
type Server struct {
	opts     Options
	main     *site // nil if off
	webhooks *site // nil if they are on main, or there are none
}

// Listen takes the addresses. Errors are of type [*ListenError].
func Listen(ctx context.Context, o Options) (*Server, error) {
	s := &Server{opts: o}
	var err error
	if o.HTTP.Listen != "" {
		if s.main, err = listenAt(ctx, "http.listen", o.HTTP.Listen, o.Log); err != nil {
			return nil, err
		}
	}
	if o.HTTP.WebhookListen != "" {
		if s.webhooks, err = listenAt(ctx, "http.webhook_listen", o.HTTP.WebhookListen, o.Log); err != nil {
			if s.main != nil {
				_ = s.main.listener.Close()
			}
			return nil, err
		}
	}
	for _, at := range s.sites() {
		mux := newMux()
		mux.HandleFunc("/", starting)
		at.routes.Store(mux)
		at.server.Handler = s.middleware(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			at.routes.Load().ServeHTTP(w, r)
		}))
	}
	return s, nil
}

// sites are the listeners that are on.
func (s *Server) sites() []*site {
	return slices.DeleteFunc([]*site{s.main, s.webhooks}, func(at *site) bool { return at == nil })
}

// newMux answers whether syncd is alive, and nothing else yet.
func newMux() *http.ServeMux {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) {
		answerJSON(w, http.StatusOK, map[string]bool{"alive": true})
	})
	return mux
}

func starting(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Retry-After", "2")
	answerJSON(w, http.StatusServiceUnavailable, notReady{Reason: "starting: the database is being opened and migrated"})
}

// Mount begins to answer with h. Whoever may ask whether syncd is alive and ready
// may do so by any name, and so may webhooks, which are trusted by their signature
// alone; the ages of the data name the organizations.
func (s *Server) Mount(h Handlers) {
	for _, at := range s.sites() {
		mux := newMux()
		known := func(next http.Handler) http.Handler { return knownHost(at, s.opts.HTTP.Hosts, next) }
		mux.HandleFunc("GET /readyz", h.Health.readyz)
		mux.Handle("GET /healthz/data", known(http.HandlerFunc(h.Health.data)))
		if at == s.main {
			mux.Handle("GET /metrics", known(s.guard(h.Metrics)))
			mux.Handle("GET /", known(s.guard(h.Page)))
		}
		if at == s.webhooks || s.webhooks == nil {
			// Polar's documentation advises a slash at the end where deliveries get redirects.
			for _, pattern := range []string{webhookPattern, webhookPattern + "/{$}"} {
				mux.Handle("POST "+pattern, h.Webhooks)
				mux.Handle("GET "+pattern, h.Webhooks) // says 405, where the page would say 404
			}
		}
		at.routes.Store(mux)
	}
}

// URL is where this machine reaches the page, "" if it is off.
func (s *Server) URL() string { return s.main.url() }

// WebhookURL is where this machine reaches the webhooks' own listener, "" if
// they have none.
func (s *Server) WebhookURL() string { return s.webhooks.url() }

// Serve answers until ctx ends, and then gives requests under way a few seconds.
// Call it once. An error is a listener that broke.
func (s *Server) Serve(ctx context.Context) error {
	group, ctx := errgroup.WithContext(ctx)
	for _, at := range s.sites() {
		group.Go(func() error { return at.serve(ctx, shutdownTime) })
	}
	return group.Wait()
}

// answerJSON writes one line.
func answerJSON(w http.ResponseWriter, status int, v any) {
	body, _ := json.Marshal(v) // what it is called with can be written
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
