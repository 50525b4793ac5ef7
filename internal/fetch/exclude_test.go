package fetch

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/zap"
)

var privateItem = strings.Replace(oneItem, `"customer":{`, `"customer":{"email":"ada","metadata":{"ada":"ada"},`, 1)

func TestExcludedMembersAreNotDecoded(t *testing.T) {
	t.Parallel()
	for _, exclude := range [][]string{{"email"}, nil} {
		o := options(&server{steps: []roundTrip{say(200, strings.Replace(onePage, oneItem, privateItem, 1)), say(200, privateItem)}})
		o.Exclude = exclude
		c := newClient(t, o)
		listing, err := c.List(t.Context(), ListParams{})
		if err != nil {
			t.Fatal(err)
		}
		single, err := c.Get(t.Context(), testID(t))
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range []*string{listing.Page.CustomerMeters[0].Customer.Email, single.CustomerMeter.Customer.Email} {
			if (m == nil) != (exclude != nil) {
				t.Errorf("with %v excluded the e-mail address is %v", exclude, m)
			}
		}
	}
}

// TestErrorsQuoteNoAnswerIfSomethingIsExcluded: what is in such answers nobody knows.
func TestErrorsQuoteNoAnswerIfSomethingIsExcluded(t *testing.T) {
	t.Parallel()
	for name, step := range map[string]roundTrip{
		"other JSON":     say(200, `{"email":"ada"}`),
		"broken JSON":    say(200, strings.Replace(privateItem, `"ada"}`, `ada}`, 1)),
		"no JSON":        say(200, "ada"),
		"unknown detail": say(500, `{"detail":{"email":"ada"}}`),
		"text":           say(502, "ada"),
	} {
		synctest.Test(t, func(t *testing.T) {
			for _, exclude := range [][]string{{"email", "metadata"}, nil} {
				log, logged := observed(t)
				o := options(step)
				o.Log, o.Exclude, o.Retry.MaxElapsedTime = log, exclude, time.Minute
				for _, err := range failures(t, newClient(t, o)) {
					log.Error("failed", zap.Error(err))
				}
				if shown := strings.Contains(logged(), "ada"); shown && exclude != nil || !shown && exclude == nil && name != "broken JSON" {
					t.Errorf("%s: with %v excluded the log says %s", name, exclude, logged())
				}
			}
		})
	}
}
