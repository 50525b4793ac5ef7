package polarsim

import (
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"
)

// coldAfter is how long Polar remembers that a token is valid.
const coldAfter = 5 * time.Minute

// An account is a token and what the server remembers of it.
type account struct {
	Token
	answered time.Time // when it was last found valid
}

// A window counts the requests of one minute.
type window struct {
	began time.Time
	used  int
}

// take counts a request, or says how long its sender must wait.
func (w *window) take(now time.Time, limit int) (wait time.Duration, ok bool) {
	if now.Sub(w.began) >= time.Minute || now.Before(w.began) {
		*w = window{began: now}
	}
	if w.used >= limit {
		return w.began.Add(time.Minute).Sub(now), false
	}
	w.used++
	return 0, true
}

// SetToken adds a token, or replaces the one with the same secret; expire and
// revoke one by setting it anew.
func (s *Server) SetToken(t Token) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.tokens[t.Secret] = &account{Token: t}
}

// admit finds the account of a request, or the answer that refuses it. The
// server must be locked.
func (s *Server) admit(r *http.Request) (*account, *answer) {
	header := r.Header.Get("Authorization")
	scheme, secret, _ := strings.Cut(header, " ")
	if header == "" || !strings.EqualFold(scheme, "Bearer") {
		a := jsonAnswer(http.StatusUnauthorized, `{"error":"Unauthorized","detail":"Not authenticated"}`)
		a.header.Set("WWW-Authenticate", `Bearer realm="polar"`)
		return nil, a
	}
	account := s.tokens[strings.TrimSpace(secret)]
	if account == nil || account.Expired {
		a := jsonAnswer(http.StatusUnauthorized, `{"error":"invalid_token","error_description":`+
			`"The access token provided is expired, revoked, malformed, or invalid for other reasons."}`)
		a.header.Set("WWW-Authenticate", `Bearer realm="polar", error="invalid_token"`)
		return nil, a
	}
	if wait, ok := s.charge(account); !ok {
		return nil, tooManyRequests(wait)
	}
	if account.NoScope {
		a := jsonAnswer(http.StatusForbidden, `{"error":"insufficient_scope","error_description":`+
			`"The request requires higher privileges than provided by the access token.",`+
			`"scope":"customer_meters:read"}`)
		a.header.Set("WWW-Authenticate",
			`Bearer realm="polar", error="insufficient_scope", scope="customer_meters:read"`)
		return nil, a
	}
	return account, nil
}

// charge counts a request against the quotas of its account.
func (s *Server) charge(a *account) (wait time.Duration, ok bool) {
	now := s.options.Now()
	if limit := s.options.ColdRequestsPerMinute; limit > 0 && now.Sub(a.answered) >= coldAfter {
		if wait, ok := s.window("token "+a.Secret).take(now, limit); !ok {
			return wait, false
		}
	}
	if s.perMinute > 0 {
		owner := "user " + a.Secret
		if !a.Personal && len(a.Organizations) == 1 {
			owner = "organization " + a.Organizations[0].String()
		}
		return s.window(owner).take(now, s.perMinute)
	}
	return 0, true
}

// warm remembers that an account got an answer.
func (s *Server) warm(a *account) {
	s.mu.Lock()
	defer s.mu.Unlock()
	a.answered = s.options.Now()
}

func (s *Server) window(owner string) *window {
	w := s.quotas[owner]
	if w == nil {
		w = &window{}
		s.quotas[owner] = w
	}
	return w
}

// tooManyRequests has an empty body, and whole seconds to wait, rounded up.
func tooManyRequests(wait time.Duration) *answer {
	a := newAnswer(http.StatusTooManyRequests, "", nil)
	seconds := max(1, int64((wait+time.Second-1)/time.Second))
	a.header.Set("Retry-After", strconv.FormatInt(seconds, 10))
	return a
}

// visible returns the organizations that an account sees, less those the
// request does not ask for. A foreign organization is no error: it is not there.
func (s *Server) visible(a *account, wanted []uuid.UUID) []*organization {
	var seen []*organization
	for _, o := range s.organizations {
		if slices.Contains(a.Organizations, o.ID) && (len(wanted) == 0 || slices.Contains(wanted, o.ID)) {
			seen = append(seen, o)
		}
	}
	return seen
}
