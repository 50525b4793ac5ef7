package fetch

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/zap"

	"polarmirror/internal/secret"
)

// TestNoErrorAndNoLogShowsTheToken drives every way of failing with a server
// that repeats the token wherever it can.
func TestNoErrorAndNoLogShowsTheToken(t *testing.T) {
	t.Parallel()
	echo := strings.Repeat(testToken+" ", 40)
	redirect := func(status int, to string) roundTrip { return say(status, echo, "Location", to) }
	steps := map[string]roundTrip{
		"200 no JSON":     say(200, echo, "Content-Type", "text/"+testToken),
		"200 other JSON":  say(200, `{"`+testToken+`":"`+echo+`"}`),
		"200 bad syntax":  say(200, `{"items":[{"`+testToken+`":1,"`+testToken+`":2}],`+echo),
		"connection":      func(*http.Request) (*http.Response, error) { return nil, errors.New("dial " + echo) },
		"time-out":        hang,
		"cut":             func(r *http.Request) (*http.Response, error) { x, _ := cutBody(r); x.Status = testToken; return x, nil },
		"redirect":        redirect(307, "https://"+testToken+".example/"+testToken),
		"redirect loop":   redirect(307, "https://api.polar.sh/"+testToken),
		"redirect no URL": redirect(307, "https://"+testToken+":port/"),
		"redirect to nil": say(307, echo),
	}
	for _, status := range []int{204, 304, 400, 401, 403, 404, 408, 409, 418, 422, 425, 429, 500, 502, 503, 599} {
		steps[fmt.Sprint(status, " text")] = say(status, echo, "Retry-After", testToken)
		steps[fmt.Sprint(status, " JSON")] = say(status, `{"error":"`+testToken+`","detail":"`+echo+`"}`)
		steps[fmt.Sprint(status, " details")] = say(status, `{"error":"x","detail":[{"loc":["`+testToken+`"],"msg":"`+echo+`"}]}`)
		steps[fmt.Sprint(status, " other")] = say(status, `{"error":"x","detail":{"a":"`+echo+`"}}`)
	}
	for name, step := range steps {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				log, logged := observed(t)
				o := options(step)
				o.Log = log
				o.Retry.MaxElapsedTime = 10 * time.Minute
				o.Token = RereadToken(func() (secret.Secret, error) { return secret.New(testToken), nil })
				c := newClient(t, o)
				for _, err := range failures(t, c) {
					log.Error("run failed", zap.Error(err), zap.Any("client", fmt.Sprintf("%+v", o.Token)))
					for _, shown := range []string{err.Error(), fmt.Sprintf("%+v %#v", err, err), logged()} {
						checkHidden(t, shown)
					}
					if strings.ContainsAny(err.Error(), "\n\r") || len(err.Error()) > 1500 {
						t.Errorf("%d bytes: %q", len(err.Error()), err)
					}
				}
			})
		})
	}
}

// failures are the errors of both calls.
func failures(t *testing.T, c *Client) []error {
	t.Helper()
	_, listErr := c.List(t.Context(), ListParams{ExternalCustomerID: []string{"x"}})
	_, getErr := c.Get(t.Context(), testID(t))
	if listErr == nil || getErr == nil {
		t.Fatalf("no error: %v, %v", listErr, getErr)
	}
	return []error{listErr, getErr}
}

// checkHidden fails if shown has the token, or a good part of it.
func checkHidden(t *testing.T, shown string) {
	t.Helper()
	if part := testToken[len("polar_oat_") : len("polar_oat_")+6]; strings.Contains(shown, part) {
		t.Errorf("the token shows: %s", shown)
	}
}

func TestPrintingAClientShowsNoToken(t *testing.T) {
	t.Parallel()
	o := options(roundTrip(ok))
	o.Limiters = NewLimiters(0)
	for _, source := range []*Token{o.Token, RereadToken(func() (secret.Secret, error) { return secret.New(testToken), nil })} {
		o.Token = source
		c := newClient(t, o)
		if _, err := c.List(t.Context(), ListParams{}); err != nil {
			t.Fatal(err)
		}
		for _, verb := range []string{"%v", "%+v", "%#v", "%s"} {
			for _, v := range []any{c, *c, o, &o, o.Token, c.opts.Token, o.Limiters} { //nolint:govet // printed, not used
				checkHidden(t, fmt.Sprintf(verb, v))
			}
		}
	}
}
