package web

import (
	"cmp"
	"net/http"
	"runtime/debug"
	"time"

	"github.com/felixge/httpsnoop"
	"go.uber.org/zap"
)

// secureHeaders keeps browsers from doing more with an answer than showing it: the
// page may load its own style sheet, script and icon, and nothing else. No inline
// style or script, no other origin, no frame, no form but to itself. A handler may
// set its own headers instead.
func secureHeaders(h http.Header) {
	h.Set("Content-Security-Policy", "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self'; "+
		"connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("X-Frame-Options", "DENY")
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("Cross-Origin-Opener-Policy", "same-origin")
	h.Set("Cross-Origin-Resource-Policy", "same-origin")
	h.Set("Cache-Control", "no-store")
}

// middleware is what is common to all routes: headers, and the observer and the log
// are told of each request. A panic is one line in the log and an answer 500. If it
// is too late for that the answer is cut, so that nobody takes half of it for the
// whole.
func (s *Server) middleware(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		began := time.Now()
		secureHeaders(w.Header())
		var sent httpsnoop.Metrics
		defer func() {
			caught := recover()
			cut := caught != nil && (sent.Code != 0 || sent.Written > 0)
			if caught != nil {
				s.opts.Log.Error("request panicked", zap.String("route", r.Pattern), zap.Any("panic", caught), zap.ByteString("stack", debug.Stack()))
				if !cut {
					sent.Code = http.StatusInternalServerError
					answerText(w, sent.Code, "something went wrong; the log says what")
				}
			}
			route := cmp.Or(r.Pattern, "none") // a pattern of the muxes, so one of few
			status, elapsed := cmp.Or(sent.Code, http.StatusOK), time.Since(began)
			s.opts.Observe(route, status, elapsed)
			s.opts.Log.Debug("request served", zap.String("route", route), zap.Int("status", status), zap.Duration("elapsed", elapsed))
			if cut {
				panic(http.ErrAbortHandler) // closes the connection, without a line of net/http's own
			}
		}()
		sent.CaptureMetrics(w, func(w http.ResponseWriter) { next.ServeHTTP(w, r) })
	})
}
