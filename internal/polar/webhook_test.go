package polar

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"

	"polarmirror/internal/polarsim"
)

// TestStateHasWhatTheListHas compares what a state says about each of a
// customer's meters with what the list says.
func TestStateHasWhatTheListHas(t *testing.T) {
	t.Parallel()
	sim := polarsim.New(polarsim.Options{Seed: 3, Organizations: []polarsim.Organization{{Name: "acme", CustomerMeters: 300}}})
	org := sim.Organizations()[0].ID
	if _, err := sim.ArchiveMeter(sim.Meters(org)[0].ID); err != nil {
		t.Fatal(err)
	}
	states := map[uuid.UUID]*CustomerState{}
	for _, r := range sim.Snapshot(org) {
		body, err := sim.CustomerEvent(r.CustomerID, polarsim.CustomerStateChanged)
		if err != nil {
			t.Fatal(err)
		}
		event, err := DecodeEvent(body)
		if err != nil {
			t.Fatal(err)
		}
		if event.DataID != r.CustomerID || event.OrganizationID != org || !event.AboutCustomer() || event.Timestamp.IsZero() {
			t.Fatalf("event is about customer %s of %s at %v", event.DataID, event.OrganizationID, event.Timestamp)
		}
		state, err := event.CustomerState()
		if err != nil || len(state.Rejected) > 0 {
			t.Fatal(err, state.Rejected)
		}
		states[r.CustomerID] = state
	}
	for _, r := range sim.Snapshot(org) {
		want, _, err := DecodeCustomerMeter([]byte(r.JSON))
		if err != nil {
			t.Fatal(err)
		}
		var got *CustomerMeter
		for _, m := range states[r.CustomerID].CustomerMeters {
			if m.ID == r.ID {
				got = m
			}
		}
		if got == nil {
			t.Fatalf("customer meter %s (archived: %v) is not in the state", r.ID, r.Archived)
		}
		want.Meter = nil
		if diff := Diff(want, got); len(diff) > 0 {
			t.Errorf("customer meter %s: %+v", r.ID, diff)
		}
		if !bytes.Equal(got.Customer.Raw, want.Customer.Raw) {
			t.Errorf("customer as nested in a list: %s\nin a state: %s", want.Customer.Raw, got.Customer.Raw)
		}
	}
}

const (
	eventCustomer = `"id":"992fae2a-2a17-4b7a-8d9e-e287cf90131b","created_at":"2026-01-01T00:00:00Z","modified_at":null,"type":"individual",` +
		`"organization_id":"1dbfc517-0bbf-4301-9ba8-555ca42b9737","deleted_at":null`
	eventMeter = `{"id":"00000000-0000-4000-8000-000000000001","created_at":"2026-01-01T00:00:00Z","modified_at":null,` +
		`"meter_id":"d498a884-e2cd-4d3e-8002-f536468a8b22","consumed_units":0.1,"credited_units":100,"balance":99.9}`
)

func stateEvent(customer, meters string) []byte {
	return fmt.Appendf(nil, `{"type":"customer.state_changed","timestamp":"2026-02-03T04:05:06.789Z","data":{%s,"active_subscriptions":[],"granted_benefits":[],"active_meters":%s}}`, customer, meters)
}

func TestUnusableMeterIsRejectedAlone(t *testing.T) {
	t.Parallel()
	for broken, reason := range map[string]string{
		strings.Replace(eventMeter, "99.9", "1e400000", 1):                                            "balance",
		strings.Replace(eventMeter, `"credited_units":100`, `"credited_units":0.5`, 1):                "credited_units",
		strings.Replace(eventMeter, `"meter_id"`, `"meter"`, 1):                                       "meter_id: missing",
		strings.Replace(eventMeter, `{`, `{"customer_id":"00000000-0000-4000-8000-00000000000f",`, 1): "customer_id",
		strings.Replace(eventMeter, `"2026-01-01T00:00:00Z"`, `"today"`, 1):                           "created_at",
		"7": "a number instead of an object",
	} {
		event, err := DecodeEvent(stateEvent(eventCustomer, "["+broken+","+eventMeter+"]"))
		if err != nil {
			t.Fatal(err)
		}
		state, err := event.CustomerState()
		if err != nil {
			t.Errorf("%s: %v", broken, err)
			continue
		}
		if len(state.CustomerMeters) != 1 || len(state.Rejected) != 1 || !strings.Contains(state.Rejected[0].Reason, reason) {
			t.Errorf("%s: %d usable, rejected %+v; want one usable and the other rejected for its %s", broken, len(state.CustomerMeters), state.Rejected, reason)
		}
	}
}

func TestBodyThatIsNoEventIsAnError(t *testing.T) {
	t.Parallel()
	for body, reason := range map[string]string{
		"":                                "ends in the middle",
		"[]":                              "an array instead of an object",
		`{"type":"x"`:                     "ends in the middle",
		`{}`:                              "type: missing",
		`{"type":7}`:                      "type: a number",
		`{"type":"x","type":"y"}`:         "type: name is there twice",
		`{"type":"x"} x`:                  "no JSON at byte 13",
		`{"type":"x","timestamp":"soon"}`: "timestamp",
		"{\"type\":\"x\xff\"}":            "invalid UTF-8",
		`{"type":"x","data":{"a\u0000":1,"a\ufffd":2}}`: "name is there twice",
	} {
		if _, err := DecodeEvent([]byte(body)); err == nil || !strings.Contains(err.Error(), reason) {
			t.Errorf("%s: error %v, want one with %q", body, err, reason)
		}
	}
}

func TestUnusableDataIsAnErrorThatNamesTheField(t *testing.T) {
	t.Parallel()
	for body, reason := range map[string]string{
		`{"type":"customer.state_changed"}`:                                     "data: missing",
		`{"type":"customer.state_changed","data":{}}`:                           "data.id: missing",
		string(stateEvent(eventCustomer, "null")):                               "data.active_meters: no array",
		`{"type":"customer.state_changed","data":{` + eventCustomer + `}}`:      "data.active_meters: no array",
		string(stateEvent(eventCustomer+`,"metadata":{"a":1e400000}`, "[]")):    "data.metadata",
		string(stateEvent(strings.Replace(eventCustomer, "992f", "", 1), "[]")): "data.id",
	} {
		event, err := DecodeEvent([]byte(body))
		if err != nil {
			t.Fatal(err)
		}
		if _, err = event.CustomerState(); err == nil || !strings.Contains(err.Error(), reason) {
			t.Errorf("%s: error %v, want one with %q", body, err, reason)
		}
	}
}

func TestDeletedCustomerIsDeletedWhateverItsFieldSays(t *testing.T) {
	t.Parallel()
	for field, want := range map[string]time.Time{
		"null":                   time.Date(2026, 2, 3, 4, 5, 6, 0, time.UTC),
		`"2026-02-01T00:00:00Z"`: time.Date(2026, 2, 1, 0, 0, 0, 0, time.UTC),
	} {
		customer := strings.Replace(eventCustomer, `"deleted_at":null`, `"deleted_at":`+field, 1)
		for _, eventType := range []string{CustomerDeleted, CustomerUpdated} {
			event, err := DecodeEvent(fmt.Appendf(nil, `{"type":%q,"timestamp":"2026-02-03T04:05:06Z","data":{%s}}`, eventType, customer))
			if err != nil {
				t.Fatal(err)
			}
			c, err := event.Customer()
			if err != nil {
				t.Fatal(err)
			}
			if eventType == CustomerUpdated && field == "null" {
				want = time.Time{}
			}
			if diff := cmp.Diff(want, c.DeletedAt); diff != "" {
				t.Errorf("%s with deleted_at %s (-want +got):\n%s", eventType, field, diff)
			}
		}
	}
}

func FuzzDecodeEvent(f *testing.F) {
	f.Add(stateEvent(eventCustomer, "["+eventMeter+"]"))
	f.Add([]byte(`{"type":"customer.deleted","timestamp":null,"data":{` + eventCustomer + `,"metadata":{"a\u0000":"\\u0000"}}}`))
	f.Add([]byte(`{"type":"order.paid","data":[1,{"id":2}]}`))
	f.Add([]byte(`{"data":{"active_meters":[{}],"id":"x"},"type":"customer.state_changed"}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		event, err := DecodeEvent(body)
		if err != nil {
			if strings.Contains(err.Error(), "\n") {
				t.Errorf("error of several lines: %q", err)
			}
			return
		}
		if c, err := event.Customer(); err == nil && (!json.Valid(c.Raw) || c.ID != event.DataID) {
			t.Errorf("customer %s: %s", c.ID, c.Raw)
		}
		state, err := event.CustomerState()
		if err != nil {
			return
		}
		var members map[string]json.RawMessage
		if err := json.Unmarshal(state.Customer.Raw, &members); err != nil {
			t.Fatal(err)
		}
		if _, ok := members["active_meters"]; ok {
			t.Errorf("the customer has its state in it: %s", state.Customer.Raw)
		}
		for _, m := range state.CustomerMeters {
			if m.Customer != state.Customer || m.CustomerID != state.Customer.ID || m.ID == uuid.Nil {
				t.Errorf("customer meter %+v", m)
			}
		}
	})
}
