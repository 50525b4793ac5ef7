package web

import (
	"net/http"
	"runtime/debug"
	"time"

	"go.uber.org/zap"
)

// secure sets the headers that keep browsers from doing more with an answer
// than showing it. A handler may set its own instead.
func (s *Server) secure(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Content-Security-Policy", "default-src 'none'; style-src 'self'; img-src 'self' data:; script-src 'self'; "+
			"connect-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'")
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("X-Frame-Options", "DENY")
		h.Set("Referrer-Policy", "no-referrer")
		h.Set("Cross-Origin-Opener-Policy", "same-origin")
		h.Set("Cross-Origin-Resource-Policy", "same-origin")
		h.Set("Cache-Control", "no-store")
		next.ServeHTTP(w, r)
	})
}

// observe tells the observer of each request.
func (s *Server) observe(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		began := time.Now()
		written := &statusWriter{ResponseWriter: w}
		cut := s.calmly(next, written, r)
		elapsed := time.Since(began)
		s.opts.Observer.Served(route(r), written.answered(), elapsed)
		s.opts.Log.Debug("request served", zap.String("route", route(r)), zap.Int("status", written.answered()), zap.Duration("elapsed", elapsed))
		if cut {
			panic(http.ErrAbortHandler) // closes the connection, without a line of net/http's own
		}
	})
}

// calmly makes of a panic one line in the log and an answer 500. If it is too
// late for that it reports that the answer is to be cut, so that nobody takes
// half of it for the whole.
func (s *Server) calmly(next http.Handler, w *statusWriter, r *http.Request) (cut bool) {
	defer func() {
		caught := recover()
		if caught == nil {
			return
		}
		cut = w.status != 0
		if caught == http.ErrAbortHandler {
			cut = true
			return
		}
		s.opts.Log.Error("request panicked", zap.String("route", route(r)), zap.Any("panic", caught), zap.ByteString("stack", debug.Stack()))
		if !cut {
			answerText(w, http.StatusInternalServerError, "something went wrong; the log says what")
		}
	}()
	next.ServeHTTP(w, r)
	return false
}

// route is the pattern that r matched: those of the muxes, so one of few.
func route(r *http.Request) string {
	if r.Pattern == "" {
		return "none"
	}
	return r.Pattern
}

// A statusWriter remembers the status.
type statusWriter struct {
	http.ResponseWriter
	status int // 0 until it is written
}

func (w *statusWriter) WriteHeader(status int) {
	if w.status == 0 && status >= 200 {
		w.status = status
	}
	w.ResponseWriter.WriteHeader(status)
}

func (w *statusWriter) Write(p []byte) (int, error) {
	if w.status == 0 {
		w.status = http.StatusOK
	}
	return w.ResponseWriter.Write(p)
}

// Flush is for handlers that look for [http.Flusher].
func (w *statusWriter) Flush() {
	_ = http.NewResponseController(w.ResponseWriter).Flush() // a writer that cannot is none of net/http's
}

// Unwrap is for [http.ResponseController].
func (w *statusWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }

func (w *statusWriter) answered() int {
	if w.status == 0 {
		return http.StatusOK
	}
	return w.status
}
