package web

import (
	"crypto/sha256"
	"crypto/subtle"
	"net/http"
	"strings"

	"go.uber.org/zap"

	"polarmirror/internal/secret"
)

// Access says what reading the page and the metrics takes: the token, or user
// and password. With neither anyone may. The functions are called for each
// request, so that a secret replaced on disk counts at once; nil is none.
type Access struct {
	Token    func() (secret.Secret, error)
	User     string
	Password func() (secret.Secret, error)
}

func (a Access) open() bool { return a.Token == nil && a.Password == nil }

// guard lets through who shows a credential.
func (a Access) guard(next http.Handler, log *zap.Logger) http.Handler {
	if a.open() {
		return next
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		allowed, err := a.allows(r)
		switch {
		case err != nil:
			log.Error("credential unreadable, request refused", zap.Error(err))
			answerText(w, http.StatusServiceUnavailable, "the credential that this takes cannot be read; the log says why")
		case !allowed:
			if a.Password != nil {
				w.Header().Add("WWW-Authenticate", `Basic realm="syncd", charset="UTF-8"`)
			}
			if a.Token != nil {
				w.Header().Add("WWW-Authenticate", `Bearer realm="syncd"`)
			}
			answerText(w, http.StatusUnauthorized, "this takes a credential: see http.token, http.user and http.password in syncd's configuration")
		default:
			next.ServeHTTP(w, r)
		}
	})
}

// allows reports whether r shows what is asked for. An error is a secret that
// cannot be read.
func (a Access) allows(r *http.Request) (bool, error) {
	scheme, shown, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	switch {
	case strings.EqualFold(scheme, "Bearer") && a.Token != nil:
		token, err := a.Token()
		return err == nil && same(strings.TrimSpace(shown), token), err
	case strings.EqualFold(scheme, "Basic") && a.Password != nil:
		user, shown, ok := r.BasicAuth()
		if !ok {
			return false, nil
		}
		password, err := a.Password()
		// Both are compared, whatever the first says.
		rightUser, right := same(user, secret.New(a.User)), err == nil && same(shown, password)
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
