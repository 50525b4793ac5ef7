package polar

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
	"github.com/google/uuid"
)

// The types of events that say something about what is mirrored (source:
// Polar's OpenAPI document, webhooks).
const (
	CustomerCreated      = "customer.created"
	CustomerUpdated      = "customer.updated"
	CustomerDeleted      = "customer.deleted"
	CustomerStateChanged = "customer.state_changed"
)

// An Event is the body of a webhook's delivery.
type Event struct {
	Type      string
	Timestamp time.Time // when Polar made the event; zero if it does not say

	// Data is the object that the event is about, U+0000 replaced; nil if there
	// is none. DataID and OrganizationID are its fields id and organization_id,
	// zero where it has none that is a UUID.
	Data           []byte
	DataID         uuid.UUID
	OrganizationID uuid.UUID

	// Body is the body itself, or what is left of it if something is excluded.
	Body []byte
}

// AboutCustomer reports whether Data is a customer, with or without its state.
func (e *Event) AboutCustomer() bool {
	return slices.Contains([]string{CustomerCreated, CustomerUpdated, CustomerDeleted, CustomerStateChanged}, e.Type)
}

// DecodeEvent decodes a body. It looks at Data only as far as to tell whose it
// is. A body that is no event is an error in one line, without the body's
// strings. A customer in the event has no member named in exclude.
func DecodeEvent(body []byte, exclude ...string) (*Event, error) {
	x := excluded(exclude)
	body, err := x.event(body)
	var e *Event
	if err == nil {
		e, err = decodeEvent(body)
	}
	return e, x.describe(err)
}

func decodeEvent(body []byte) (*Event, error) {
	var wire struct {
		Type      string         `json:"type"`
		Timestamp time.Time      `json:"timestamp"`
		Data      jsontext.Value `json:"data"`
	}
	if err := json.Unmarshal(body, &wire, decoding); err != nil {
		return nil, describe(err)
	}
	if wire.Type == "" {
		return nil, missing("type")
	}
	e := &Event{Type: strings.ReplaceAll(wire.Type, "\x00", "\uFFFD"), Timestamp: wire.Timestamp, Body: body}
	if wire.Data.Kind() != '{' {
		return e, nil
	}
	e.Data, _ = replaceNULs(wire.Data)
	var owner struct {
		ID             guess[uuid.UUID] `json:"id"`
		OrganizationID guess[uuid.UUID] `json:"organization_id"`
	}
	if err := decodeObject(e.Data, &owner); err != nil {
		return nil, within("data", err)
	}
	e.DataID, e.OrganizationID = owner.ID.value(), owner.OrganizationID.value()
	return e, nil
}

// ofState reports whether a customer has a member only in webhooks, together with
// its state. The prefix stands for those that Polar may add: a customer that had
// them would change each time a list follows a webhook.
func ofState(member string) bool {
	return strings.HasPrefix(member, "active_") || member == "granted_benefits"
}

// Customer decodes Data as a customer, whose Raw has what a customer has when it
// is nested in a customer meter, and in the same order. Should it have deleted_at null although
// the event says that the customer was deleted, the event's time stands there.
func (e *Event) Customer() (*Customer, error) {
	if e.Data == nil {
		return nil, missing("data")
	}
	c, err := decodeCustomer(editObject(e.Data, func(name string, value jsontext.Value) jsontext.Value {
		if ofState(name) {
			return nil
		}
		return value
	}))
	if err != nil {
		return nil, within("data", err)
	}
	if e.Type == CustomerDeleted && c.DeletedAt.IsZero() {
		c.DeletedAt = e.Timestamp
	}
	return c, nil
}

// A CustomerState is a customer and all of its customer meters.
type CustomerState struct {
	Customer *Customer

	// CustomerMeters, zero and archived ones included, have that Customer, but
	// neither Meter nor Extra: the event does not have them.
	CustomerMeters []*CustomerMeter

	// Rejected are active_meters that can't be used.
	Rejected []RejectedRow
}

// CustomerState decodes Data as the state of a customer.
func (e *Event) CustomerState() (*CustomerState, error) {
	c, err := e.Customer()
	if err != nil {
		return nil, err
	}
	var wire struct {
		Meters jsontext.Value `json:"active_meters"`
	}
	if err := decodeObject(e.Data, &wire); err != nil {
		return nil, within("data", err)
	}
	var items []jsontext.Value
	if json.Unmarshal(wire.Meters, &items) != nil || items == nil {
		return nil, within("data", &fieldError{"active_meters", errors.New("no array")})
	}
	state := &CustomerState{Customer: c}
	for i, item := range items {
		m, err := state.decodeMeter(item)
		if err != nil {
			state.Rejected = append(state.Rejected, reject(i, item, err))
			continue
		}
		state.CustomerMeters = append(state.CustomerMeters, m)
	}
	return state, nil
}

func (s *CustomerState) decodeMeter(item jsontext.Value) (*CustomerMeter, error) {
	wire := wireCustomerMeter{CustomerID: id(s.Customer.ID)} // it need not be there again
	if err := decodeObject(item, &wire); err != nil {
		return nil, err
	}
	m := &CustomerMeter{}
	if err := wire.flat(m); err != nil {
		return nil, err
	}
	if m.CustomerID != s.Customer.ID {
		return nil, fmt.Errorf("customer_id: %s, but the customer's id is %s", m.CustomerID, s.Customer.ID)
	}
	m.Customer = s.Customer
	return m, nil
}
