package polar

import (
	"errors"
	"fmt"
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
}

// AboutCustomer reports whether Data is a customer, with or without its state.
func (e *Event) AboutCustomer() bool {
	switch e.Type {
	case CustomerCreated, CustomerUpdated, CustomerDeleted, CustomerStateChanged:
		return true
	}
	return false
}

// DecodeEvent decodes a body. It looks at Data only as far as to tell whose it
// is. A body that is no event is an error in one line, without the body's
// strings. Nothing in the event refers to body.
func DecodeEvent(body []byte) (*Event, error) {
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
	e := &Event{Type: strings.ReplaceAll(wire.Type, "\x00", "\uFFFD"), Timestamp: wire.Timestamp}
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

// Customer decodes Data as a customer. Should it have deleted_at null although
// the event says that the customer was deleted, the event's time stands there.
func (e *Event) Customer() (*Customer, error) {
	if e.Data == nil {
		return nil, missing("data")
	}
	c, err := decodeCustomer(e.Data)
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
	// Customer has in Raw what a customer has when it is nested in a customer
	// meter, and in the same order.
	Customer *Customer

	// CustomerMeters, zero and archived ones included, have that Customer, but
	// neither Meter nor Extra: the event does not have them.
	CustomerMeters []*CustomerMeter

	// Rejected are active_meters that can't be used.
	Rejected []RejectedRow
}

// CustomerState decodes Data as the state of a customer.
func (e *Event) CustomerState() (*CustomerState, error) {
	if e.Data == nil {
		return nil, missing("data")
	}
	var wire struct {
		Meters jsontext.Value `json:"active_meters"`
		// What a customer has only together with its state.
		Subscriptions jsontext.Value `json:"active_subscriptions"`
		Benefits      jsontext.Value `json:"granted_benefits"`
		Customer      jsontext.Value `json:",embed"`
	}
	wire.Customer = jsontext.Value("{}")
	if err := decodeObject(e.Data, &wire); err != nil {
		return nil, within("data", err)
	}
	c, err := decodeCustomer(wire.Customer)
	if err != nil {
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
