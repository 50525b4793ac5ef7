package polarsim

import (
	"net/http"
	"strconv"
	"strings"
	"time"
)

// coldAfter is how long Polar remembers that a token is valid.
const coldAfter = 5 * time.Minute

// An account is a token and what the server remembers of it.
type account struct {
	Token
	answered    time.Time // when it was last found valid
	cold, usual window
}

// A window counts the requests of one minute.
type window struct {
	began time.Time
	used  int
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
	scheme, secret, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	if !strings.EqualFold(scheme, "Bearer") {
		return nil, refusal(http.StatusUnauthorized, `Bearer realm="polar"`, `{"error":"Unauthorized","detail":"Not authenticated"}`)
	}
	a := s.tokens[strings.TrimSpace(secret)]
	if a == nil || a.Expired {
		return nil, refusal(http.StatusUnauthorized, `Bearer realm="polar", error="invalid_token"`, `{"error":"invalid_token","error_description":`+
			`"The access token provided is expired, revoked, malformed, or invalid for other reasons."}`)
	}
	now := s.options.Now()
	if now.Sub(a.answered) >= coldAfter {
		if full := a.cold.charge(s.options.ColdRequestsPerMinute, now); full != nil {
			return nil, full
		}
	}
	if full := a.usual.charge(s.options.RequestsPerMinute, now); full != nil {
		return nil, full
	}
	if a.NoScope {
		return nil, refusal(http.StatusForbidden, `Bearer realm="polar", error="insufficient_scope", scope="customer_meters:read"`,
			`{"error":"insufficient_scope","error_description":"The request requires higher privileges than provided by the access token.",`+
				`"scope":"customer_meters:read"}`)
	}
	return a, nil
}

func refusal(status int, challenge, body string) *answer {
	a := jsonAnswer(status, body)
	a.Header.Set("WWW-Authenticate", challenge)
	return a
}

// charge counts a request against a quota, or returns the answer that says when
// there is room again.
func (w *window) charge(limit int, now time.Time) *answer {
	if limit <= 0 {
		return nil
	}
	if now.Sub(w.began) >= time.Minute {
		*w = window{began: now}
	}
	if w.used++; w.used <= limit {
		return nil
	}
	a := newAnswer(http.StatusTooManyRequests, "", "")
	seconds := (w.began.Add(time.Minute).Sub(now) + time.Second - 1) / time.Second // whole ones, rounded up
	a.Header.Set("Retry-After", strconv.Itoa(int(seconds)))
	return a
}
