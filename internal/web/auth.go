package web

import (
	"crypto/sha256"
	"crypto/subtle"
	"net/http"
	"strings"

	"go.uber.org/zap"

	"polarmirror/internal/config"
	"polarmirror/internal/secret"
)

// guard lets through who shows a credential, if there is one.
func (s *Server) guard(next http.Handler) http.Handler {
	c := s.opts.HTTP
	if !c.Protected() {
		return next
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		allowed, err := allows(c, r)
		switch {
		case err != nil:
			s.opts.Log.Error("credential unreadable, request refused", zap.Error(err))
			answerText(w, http.StatusServiceUnavailable, "the credential that this takes cannot be read; the log says why")
		case !allowed:
			if !c.Password.IsZero() {
				w.Header().Add("WWW-Authenticate", `Basic realm="syncd", charset="UTF-8"`)
			}
			if !c.Token.IsZero() {
				w.Header().Add("WWW-Authenticate", `Bearer realm="syncd"`)
			}
			answerText(w, http.StatusUnauthorized, "this takes a credential: see http.token, http.user and http.password in syncd's configuration")
		default:
			next.ServeHTTP(w, r)
		}
	})
}

// allows reports whether r shows the token, or user and password. They are read anew
// for each request, so that a secret replaced on disk counts at once. An error is a
// secret that cannot be read.
func allows(c config.HTTP, r *http.Request) (bool, error) {
	scheme, shown, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	switch {
	case strings.EqualFold(scheme, "Bearer") && !c.Token.IsZero():
		token, err := c.Token.Read()
		return err == nil && same(strings.TrimSpace(shown), token), err
	case strings.EqualFold(scheme, "Basic") && !c.Password.IsZero():
		user, shown, ok := r.BasicAuth()
		if !ok {
			return false, nil
		}
		password, err := c.Password.Read()
		// Both are compared, whatever the first says.
		rightUser, right := same(user, secret.New(c.User)), err == nil && same(shown, password)
		return rightUser && right, err
	}
	return false, nil
}

// same compares in a time that tells neither how much was right nor how long
// the secret is. No text is the same as no secret.
func same(shown string, want secret.Secret) bool {
	a, b := sha256.Sum256([]byte(shown)), want.Sum()
	return subtle.ConstantTimeCompare(a[:], b[:]) == 1 && !want.IsZero()
}
