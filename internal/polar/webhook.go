package polar

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"time"

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
	object, err := wholeObject(body)
	if err != nil {
		return nil, err
	}
	object, nuls := replaceNULs(object)
	if nuls > 0 {
		if err := checkStrict(object); err != nil {
			return nil, fmt.Errorf("after replacing U+0000: %w", err)
		}
	}
	e := &Event{}
	w := walk(object)
	for name, value, ok := w.next(); ok; name, value, ok = w.next() {
		switch string(name) {
		case "type":
			e.Type, err = decodeString(value)
		case "timestamp":
			e.Timestamp, err = decodeOptionalTime(value)
		case "data":
			e.take(value)
		}
		if err != nil {
			return nil, &fieldError{field: fieldName(name), err: err}
		}
	}
	if e.Type == "" {
		return nil, &fieldError{field: "type", err: errMissing}
	}
	return e, nil
}

// take keeps data, if it is an object, and whose it is.
func (e *Event) take(data []byte) {
	if data[0] != '{' {
		return
	}
	e.Data = bytes.Clone(data)
	w := walk(e.Data)
	for name, value, ok := w.next(); ok; name, value, ok = w.next() {
		switch string(name) { // what is no UUID stays zero
		case "id":
			e.DataID, _ = decodeUUID(value)
		case "organization_id":
			e.OrganizationID, _ = decodeUUID(value)
		}
	}
}

// Customer decodes Data as a customer. Should it have deleted_at null although
// the event says that the customer was deleted, the event's time stands there.
func (e *Event) Customer() (*Customer, error) {
	if e.Data == nil {
		return nil, &fieldError{field: "data", err: errMissing}
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
		return nil, &fieldError{field: "data", err: errMissing}
	}
	var customer, meters []byte
	w := walk(e.Data)
	for name, value, ok := w.next(); ok; name, value, ok = w.next() {
		if string(name) == "active_meters" {
			meters = value
		}
		if !ofState(string(name)) {
			customer = appendMember(customer, name, value)
		}
	}
	if customer == nil {
		customer = []byte{'{'}
	}
	c, err := decodeCustomer(append(customer, '}'))
	if err != nil {
		return nil, within("data", err)
	}
	state := &CustomerState{Customer: c}
	if err := state.decodeMeters(meters); err != nil {
		return nil, within("data", within("active_meters", err))
	}
	return state, nil
}

// ofState reports whether a customer has a field of this name only together
// with its state.
func ofState(name string) bool {
	return name == "granted_benefits" || strings.HasPrefix(name, "active_")
}

func (s *CustomerState) decodeMeters(array []byte) error {
	if array == nil {
		return errMissing
	}
	if array[0] != '[' {
		return wantKind("an array", array)
	}
	items, err := readItems(jsontext.NewDecoder(bytes.NewBuffer(array)))
	if err != nil {
		return err
	}
	for i, at := range items {
		item := array[at.from:at.to]
		m, err := s.decodeMeter(item)
		if err != nil {
			s.Rejected = append(s.Rejected, reject(i, item, err))
			continue
		}
		s.CustomerMeters = append(s.CustomerMeters, m)
	}
	return nil
}

func (s *CustomerState) decodeMeter(item []byte) (*CustomerMeter, error) {
	if item[0] != '{' {
		return nil, errors.New(kind(item) + " instead of a customer meter")
	}
	m := &CustomerMeter{CustomerID: s.Customer.ID}
	found, err := decodeFlat(item, m)
	if err != nil {
		return nil, err
	}
	if m.CustomerID != s.Customer.ID {
		return nil, fmt.Errorf("customer_id: %s, but the customer's id is %s", m.CustomerID, s.Customer.ID)
	}
	m.Customer, m.Extra = s.Customer, nil
	const elsewhere = fieldSet(1)<<fieldCustomerID | 1<<fieldCustomer | 1<<fieldMeter
	return m, (found.seen | elsewhere).missing(requiredFields)
}
