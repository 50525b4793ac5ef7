package fetch

import (
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
)

// What a caller may branch on, with errors.Is.
var (
	ErrTokenRejected  = errors.New("access token rejected")               // 401
	ErrScopeMissing   = errors.New("scope missing")                       // 403
	ErrNotFound       = errors.New("customer meter not found")            // Polar itself says that it is gone
	ErrWrongAddress   = errors.New("no such address")                     // any other 404, which proves nothing about a row
	ErrInvalidRequest = errors.New("invalid request")                     // 422
	ErrRateLimited    = errors.New("rate limited without end")            // 429 for longer than Retry.MaxElapsedTime
	ErrUnexpectedBody = errors.New("unexpected body")                     // 200 with a body that is no answer of the call
	ErrBlocked        = errors.New("request blocked on the way to Polar") // 407, or a 403 in words that are not Polar's
	ErrNoAnswer       = errors.New("no answer from Polar, or a cut one")  // connection errors, time-outs
	errTooLarge       = fmt.Errorf("body larger than %d MiB", maxBody>>20)
)

// A StatusError is an answer that is of no use: a status other than 200, or a
// body that is no answer of the call. Its text is one line, bounded, without
// the token, and ends with the remedy where there is one.
type StatusError struct {
	Organization string // label
	BaseURL      string
	APIVersion   string
	Path         string // without the query
	Status       int
	Code         string // Polar's "error", such as invalid_token; "" if there is none
	Detail       string // Polar's "detail", as JSON if it is no text
	ContentType  string
	BodyStart    string // at most 200 bytes of a body that is no error of Polar's
	Proxy        string // host and port of the proxy that the request was sent to; "" if there is none
	Attempts     int    // requests sent, this one included
	Err          error  // what is wrong with a body; nil for a status
}

// Error says what happened, then what to do.
func (e *StatusError) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "organization %s: GET %s: status %d", e.Organization, e.Path, e.Status)
	if text := http.StatusText(e.Status); text != "" && e.Err == nil {
		b.WriteString(" " + text)
	}
	if said := slices.DeleteFunc([]string{e.Code, e.Detail}, func(s string) bool { return s == "" }); len(said) > 0 {
		b.WriteString(" (" + strings.Join(said, ": ") + ")")
	}
	if e.Err != nil {
		b.WriteString(": " + e.Err.Error())
	}
	if e.Err != nil || e.foreign() {
		if e.Proxy != "" {
			b.WriteString(", through proxy " + e.Proxy)
		}
		if e.ContentType != "" {
			b.WriteString(", content type " + e.ContentType)
		}
		if e.BodyStart != "" {
			fmt.Fprintf(&b, ", body begins %q", e.BodyStart)
		}
	}
	if e.Attempts > 1 {
		fmt.Fprintf(&b, ", after %d attempts", e.Attempts)
	}
	if remedy := e.remedy(); remedy != "" {
		b.WriteString("; " + remedy)
	}
	return b.String()
}

// remedy is what the operator can do.
func (e *StatusError) remedy() string {
	switch e.kind() {
	case ErrTokenRejected:
		return "the access token is wrong, expired or revoked, or belongs to the other server: base_url is " + e.BaseURL +
			", and production and sandbox tokens don't work on each other; create a token with the scope customer_meters:read there"
	case ErrScopeMissing:
		return "create an access token with the scope customer_meters:read and use it instead"
	case ErrBlocked:
		return "this answer is not Polar's: have the proxy or firewall that gave it allow requests to " + e.BaseURL
	case ErrWrongAddress:
		if e.Code == "" && e.Detail == unknownCall {
			return fmt.Sprintf("this API version is unknown to Polar or has been removed: polar.api_version is %s, and this syncd is made for %s; set it to a version that Polar has, and update syncd if there is a newer one. If Polar has this version, check that polar.base_url (%s) is Polar's API",
				e.APIVersion, defaultAPIVersion, e.BaseURL)
		}
		return fmt.Sprintf("the server does not know this call: check polar.base_url (%s) and polar.api_version (%s)",
			e.BaseURL, e.APIVersion)
	case ErrInvalidRequest:
		return "Polar does not accept the request: check the ids in organizations[].id and organizations[].filter"
	case ErrRateLimited:
		return "lower polar.requests_per_minute, or ask Polar for a higher limit"
	case ErrUnexpectedBody:
		return "check that polar.base_url (" + e.BaseURL + ") is Polar's API and that no proxy answers in its place"
	}
	return ""
}

// kind returns the sentinel that e is, nil for other statuses.
func (e *StatusError) kind() error {
	switch {
	case e.Err != nil:
		return ErrUnexpectedBody
	case e.Status == http.StatusUnauthorized:
		return ErrTokenRejected
	case e.Status == http.StatusProxyAuthRequired, e.Status == http.StatusForbidden && e.foreign():
		return ErrBlocked
	case e.Status == http.StatusForbidden:
		return ErrScopeMissing
	case e.Status == http.StatusNotFound && e.Code == codeNotFound && e.Path != listPath:
		return ErrNotFound
	case e.Status == http.StatusNotFound:
		return ErrWrongAddress
	case e.Status == http.StatusUnprocessableEntity:
		return ErrInvalidRequest
	case e.Status == http.StatusTooManyRequests:
		return ErrRateLimited
	}
	return nil
}

// foreign reports whether the body is not an error in Polar's words.
func (e *StatusError) foreign() bool { return e.Code == "" && e.Detail == "" }

// codeNotFound is the code of a 404 that speaks of the customer meter asked
// for; a list asks for none. A 404 of a proxy, or of a version that Polar does not know, lacks it.
const codeNotFound = "ResourceNotFound"

// unknownCall is the detail, without a code, of Polar's 404 to every request of a
// version that it does not know or has removed.
const unknownCall = "Not Found"

// Is reports whether target is the sentinel of the status.
func (e *StatusError) Is(target error) bool { return target != nil && target == e.kind() }

// Unwrap returns what is wrong with the body, if that is the matter.
func (e *StatusError) Unwrap() error { return e.Err }

// A RequestError is a request without a whole answer: no connection, no answer
// in time, a body that was cut, a redirect to elsewhere.
type RequestError struct {
	Organization string // label
	BaseURL      string
	Path         string // without the query
	Attempts     int    // requests sent, this one included
	Err          error
}

// Error says on one line what happened, then what to do.
func (e *RequestError) Error() string {
	text := fmt.Sprintf("organization %s: GET %s%s: %v", e.Organization, e.BaseURL, e.Path, e.Err)
	if e.Attempts > 1 {
		text += fmt.Sprintf(", after %d attempts", e.Attempts)
	}
	if _, proxy := errors.AsType[*ProxyError](e.Err); !proxy && e.Is(ErrNoAnswer) { // the others name their own
		text += "; check polar.base_url and the network, or try again later"
	}
	return text
}

// Is reports whether target is ErrNoAnswer; a redirect is an answer.
func (e *RequestError) Is(target error) bool {
	_, redirect := errors.AsType[*RedirectError](e.Err)
	return target == ErrNoAnswer && !redirect
}

// Unwrap returns the cause.
func (e *RequestError) Unwrap() error { return e.Err }
