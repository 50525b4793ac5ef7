package web

import (
	"encoding/json"
	"fmt"
	"net/http"
)

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

// webhookRoutes are those of http.webhook_listen.
func (s *Server) webhookRoutes() http.Handler {
	mux := http.NewServeMux()
	s.addHealth(mux, s.webhooks)
	s.addWebhooks(mux)
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

// addWebhooks adds the webhook endpoint. It is reached by whatever name the
// world has for it, and believes nobody but by signature.
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
