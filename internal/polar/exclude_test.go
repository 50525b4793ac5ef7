package polar

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// secretive is a valid customer of which each value, and a name of its metadata,
// that may be excluded contains the word private.
func secretive() object {
	c := individual()
	for _, name := range everything {
		c = c.with(name, `"private"`)
	}
	return c.with("billing_address", `{"line1":"private"}`).with("tax_id", `["private","us_ein"]`).with("metadata", `{"private":"private"}`)
}

var everything = []string{"email", "name", "billing_name", "billing_address", "tax_id", "avatar_url", "metadata"}

func TestNothingIsMadeOfExcludedMembers(t *testing.T) {
	t.Parallel()
	bare := individual()
	for _, name := range everything {
		bare = bare.without(name)
	}
	for _, customer := range []object{
		secretive(),
		secretive().and(`email`, `"private"`), // what makes no usable customer makes one without it
		secretive().with("metadata", "{\"private\":\"private\xff\"}"),
		secretive().with("metadata", `{"private":1e400000,"private":2}`),
		secretive().with("tax_id", strings.Repeat("[", 300)+`"private"`+strings.Repeat("]", 300)),
		secretive().with("name", `["private"]`),
		secretive().without("name").with(`n\u0061me`, `"private"`),
	} {
		text := strings.ReplaceAll(customer.String(), `\\u`, `\u`)
		item := sampleItem().with("customer", text)
		page, err := NewDecoder(everything...).Page([]byte(pageOf(item.String())))
		if err != nil || len(page.CustomerMeters) != 1 {
			t.Errorf("%s: %+v, %v", customer, page, err)
			continue
		}
		got, want := page.CustomerMeters[0], decodeOne(t, sampleItem().with("customer", bare.String()))
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s: (-without them +excluded):\n%s", customer, diff)
		}
		single, _, err := DecodeCustomerMeter([]byte(item.String()), everything...)
		if err != nil || cmp.Diff(&want, single) != "" {
			t.Errorf("%s by itself: %+v, %v", customer, single, err)
		}
	}
	some, err := NewDecoder("name", "tax_id").Page([]byte(pageOf(sampleItem().String())))
	if err != nil {
		t.Fatal(err)
	}
	if got, want := string(some.CustomerMeters[0].Customer.Raw), individual().without("name").without("tax_id").String(); got != want {
		t.Errorf("with name and tax_id excluded the customer is %s\nwant %s", got, want)
	}
}

func TestRejectedRowsAndErrorsShowNothingExcluded(t *testing.T) {
	t.Parallel()
	d := NewDecoder(everything...)
	item := sampleItem().with("customer", secretive().String())
	page, err := d.Page([]byte(pageOf(
		item.without("balance").String(),
		item.with("customer", secretive().without("id").String()).String(),
		item.with("customer", `["private"]`).String(),
		item.and("customer", secretive().String()).String(),
		`"private"`,
		`[{"customer":"private"}]`,
	)))
	if err != nil {
		t.Fatal(err)
	}
	var reasons []string
	for _, r := range page.Rejected {
		if reasons = append(reasons, r.Reason); strings.Contains(string(r.Raw), "private") {
			t.Errorf("%s: %s", r.Reason, r.Raw)
		}
		if kept := r.Index < 4; kept != (r.ID.String() == sampleID) || kept != strings.Contains(string(r.Raw), sampleMeterID) {
			t.Errorf("row %d, %s: what else it has is not kept: %s", r.Index, r.Reason, r.Raw)
		}
	}
	want := []string{"balance: missing or null", "customer.id: missing or null", "customer: missing", "customer: name is there twice", "a string instead of an object", "an array instead of an object"}
	if diff := cmp.Diff(want, reasons); diff != "" {
		t.Errorf("reasons (-want +got):\n%s", diff)
	}
	broken := sampleItem().with("customer", `{"metadata":{"private":{"private":nonsense}}}`).String()
	_, pageErr := d.Page([]byte(pageOf(broken)))
	_, _, singleErr := DecodeCustomerMeter([]byte(broken), everything...)
	_, eventErr := DecodeEvent([]byte(`{"type":"customer.updated","data":`+broken+`}`), everything...)
	_, otherErr := DecodeEvent([]byte(`{"type":"order.paid","data":{"customer":{"private":1,"private":2}}}`), everything...)
	for _, err := range []error{pageErr, singleErr, eventErr, otherErr} {
		if err == nil || strings.Contains(err.Error(), "private") {
			t.Errorf("got %v", err)
		}
	}
}

func TestEventsKeepNothingExcluded(t *testing.T) {
	t.Parallel()
	customer := strings.Trim(secretive().String(), "{}")
	for _, eventType := range []string{CustomerUpdated, CustomerStateChanged} {
		body := fmt.Sprintf(`{"type":%q,"x":"private","timestamp":"2026-02-03T04:05:06Z","data":{%s,`+
			`"active_subscriptions":[{"metadata":"private"}],"active_seats":["private"],"granted_benefits":["private"],"active_meters":[%s]}}`,
			eventType, customer, eventMeter)
		event, err := DecodeEvent([]byte(body), everything...)
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(string(event.Body)+string(event.Data), "private") {
			t.Errorf("%s keeps %s", eventType, event.Body)
		}
		again, err := DecodeEvent(event.Body)
		if err != nil {
			t.Fatal(err)
		}
		state, err := again.CustomerState()
		if err != nil || len(state.CustomerMeters) != 1 || state.Customer.Email != nil || *state.Customer.ExternalID != "user-1" {
			t.Errorf("what is kept says %+v, %v", state, err)
		}
	}
	for body, want := range map[string]string{`["private"]`: "an array instead of an object", `{"type":"customer.updated","data":"private"}`: ""} {
		event, err := DecodeEvent([]byte(body), everything...)
		if (err != nil) != (want != "") || err != nil && err.Error() != want {
			t.Errorf("%s: %v", body, err)
		}
		if event != nil && strings.Contains(string(event.Body), "private") {
			t.Errorf("kept %s", event.Body)
		}
	}
}

// TestCustomerOfAWebhookHasNothingOfItsState, whatever Polar adds to that.
func TestCustomerOfAWebhookHasNothingOfItsState(t *testing.T) {
	t.Parallel()
	listed := decodeOne(t, sampleItem()).Customer
	customer := strings.TrimSuffix(individual().String(), "}")
	for _, eventType := range []string{CustomerUpdated, CustomerStateChanged} {
		event, err := DecodeEvent(fmt.Appendf(nil, `{"type":%q,"data":%s,"active_meters":[],"active_subscriptions":[],"active_seats":{"a":1},"granted_benefits":[]}}`, eventType, customer))
		if err != nil {
			t.Fatal(err)
		}
		c, err := event.Customer()
		if diff := cmp.Diff(listed, c); diff != "" || err != nil {
			t.Errorf("%s: %v (-list +webhook):\n%s", eventType, err, diff)
		}
	}
}
