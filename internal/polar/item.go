package polar

import (
	"bytes"
	"errors"
	"fmt"

	"github.com/go-json-experiment/json/jsontext"
	"github.com/google/uuid"
)

// Indexes of a customer meter's fields in requiredFields.
const (
	fieldUnknown = -1

	fieldID = iota - 1
	fieldCreatedAt
	fieldModifiedAt
	fieldCustomerID
	fieldMeterID
	fieldConsumedUnits
	fieldCreditedUnits
	fieldBalance
	fieldCustomer
	fieldMeter
)

// requiredFields are the fields without which a customer meter can't be
// mirrored; modified_at may be null.
var requiredFields = []string{
	"id", "created_at", "modified_at", "customer_id", "meter_id",
	"consumed_units", "credited_units", "balance", "customer", "meter",
}

// An itemDecoder decodes the items of one page. Customers and meters repeat
// within a page: a nested object whose bytes are those of one already decoded is
// that one. Of those in a shortened body the marks know it.
type itemDecoder struct {
	*Decoder
	ofCustomer map[uuid.UUID]*Customer
	ofMeter    map[uuid.UUID]*Meter
}

func (d *Decoder) newItemDecoder() *itemDecoder { return &itemDecoder{Decoder: d} }

// errUnplaced means that a digit of a shortened item stands for something else
// than its customer or its meter.
var errUnplaced = errors.New("a copy in an unexpected place")

// item decodes one item into m and returns how many U+0000 it replaced. The
// item must be well-formed as far as the lenient options go, and altogether if
// strict is set.
func (d *itemDecoder) item(item []byte, strict bool, m *CustomerMeter) (nuls int, err error) {
	return d.marked(item, 0, nil, strict, m)
}

// marked is item for one of a shortened body, in which it lies at offset and has
// these marks. After an error it may succeed as it was sent.
func (d *itemDecoder) marked(item []byte, offset int, marks []mark, strict bool, m *CustomerMeter) (nuls int, err error) {
	if !strict {
		if err := checkStrict(item); err != nil {
			return 0, err
		}
	}
	if item[0] != '{' {
		return 0, errors.New(kind(item) + " instead of a customer meter")
	}
	item, nuls = replaceNULs(item)
	if nuls > 0 {
		// Two names may have become one.
		if err := checkStrict(item); err != nil {
			return 0, fmt.Errorf("after replacing U+0000: %w", err)
		}
	}
	nested, err := decodeFlat(item, m)
	if err == nil {
		err = nested.seen.missing(requiredFields)
	}
	if err != nil {
		return 0, err
	}
	unplaced := 0
	var ofCustomer *entry[Customer]
	var ofMeter *entry[Meter]
	for _, k := range marks {
		switch at := k.at - offset; {
		case k.customer != nil && at == nested.customerAt:
			ofCustomer, m.Customer = k.customer, k.customer.cutOut(k.cut)
		case k.meter != nil && at == nested.meterAt:
			ofMeter, m.Meter = k.meter, k.meter.cutOut(k.cut)
		case k.cut:
			unplaced++
		}
	}
	if unplaced > 0 {
		return 0, errUnplaced
	}
	if m.Customer == nil {
		if m.Customer, err = d.customer(m.CustomerID, nested.customer, ofCustomer); err != nil {
			return 0, within("customer", err)
		}
	}
	if m.Meter == nil {
		if m.Meter, err = d.meter(m.MeterID, nested.meter, ofMeter); err != nil {
			return 0, within("meter", err)
		}
	}
	return nuls, checkNested(m)
}

// cutOut returns the object for which a digit stands; nil if none does, or if
// the object was of no use where it was seen first.
func (e *entry[T]) cutOut(cut bool) *T {
	if !cut {
		return nil
	}
	return e.value
}

// first notes the object at its first sight, and reports whether that is one.
func (e *entry[T]) first(value *T) bool {
	if e == nil || e.value != nil {
		return false
	}
	e.value = value
	return true
}

// nestedObjects are the customer and the meter of an item, where they begin in
// it, and which of all required fields there are.
type nestedObjects struct {
	customer, meter     []byte
	customerAt, meterAt int
	seen                fieldSet
}

// decodeFlat decodes the fields of m itself and returns the nested objects.
func decodeFlat(item []byte, m *CustomerMeter) (found nestedObjects, err error) {
	w := walk(item)
	for name, value, ok := w.next(); ok; name, value, ok = w.next() {
		i := fieldIndex(name)
		switch i {
		case fieldID:
			m.ID, err = decodeUUID(value)
		case fieldCreatedAt:
			m.CreatedAt, err = decodeTime(value)
		case fieldModifiedAt:
			m.ModifiedAt, err = decodeOptionalTime(value)
		case fieldCustomerID:
			m.CustomerID, err = decodeUUID(value)
		case fieldMeterID:
			m.MeterID, err = decodeUUID(value)
		case fieldConsumedUnits:
			m.ConsumedUnits, err = decodeDecimal(value)
		case fieldCreditedUnits:
			m.CreditedUnits, err = decodeInt64(value)
		case fieldBalance:
			m.Balance, err = decodeDecimal(value)
		case fieldCustomer:
			found.customer, found.customerAt = value, w.pos-len(value)
		case fieldMeter:
			found.meter, found.meterAt = value, w.pos-len(value)
		default:
			m.Extra = appendMember(m.Extra, name, value)
		}
		if i == fieldCustomer || i == fieldMeter {
			w.trouble = "" // their own decoding looks for it, and names the field within
		}
		if err = w.check(name, err); err != nil {
			return found, err
		}
		if i != fieldUnknown {
			found.seen |= 1 << i
		}
	}
	if m.Extra != nil {
		m.Extra = append(m.Extra, '}')
	}
	return found, nil
}

// fieldIndex returns the index of name in requiredFields or fieldUnknown.
func fieldIndex(name []byte) int {
	switch string(name) {
	case "id":
		return fieldID
	case "created_at":
		return fieldCreatedAt
	case "modified_at":
		return fieldModifiedAt
	case "customer_id":
		return fieldCustomerID
	case "meter_id":
		return fieldMeterID
	case "consumed_units":
		return fieldConsumedUnits
	case "credited_units":
		return fieldCreditedUnits
	case "balance":
		return fieldBalance
	case "customer":
		return fieldCustomer
	case "meter":
		return fieldMeter
	}
	return fieldUnknown
}

// appendMember adds a member to an object that is not closed yet; nil is the
// object that is not begun.
func appendMember(object, name, value []byte) []byte {
	if object == nil {
		object = append(object, '{')
	} else {
		object = append(object, ',')
	}
	// The name is valid UTF-8, since the item is, and so can't fail.
	object, _ = jsontext.AppendQuote(object, name)
	object = append(object, ':')
	return append(object, value...)
}

// customer returns the customer of raw, a new one only if its bytes are new.
// sight is where a shortened body shows it; nil if it was not marked.
func (d *itemDecoder) customer(id uuid.UUID, raw []byte, sight *entry[Customer]) (*Customer, error) {
	if c := d.ofCustomer[id]; c != nil && bytes.Equal(c.Raw, raw) {
		return c, nil
	}
	c, err := decodeCustomer(raw)
	if err != nil {
		return nil, err
	}
	d.customers.remember(d.seed, c)
	if !sight.first(c) {
		d.ofCustomer = with(d.ofCustomer, id, c)
	}
	return c, nil
}

// meter is [itemDecoder.customer] for a meter.
func (d *itemDecoder) meter(id uuid.UUID, raw []byte, sight *entry[Meter]) (*Meter, error) {
	if m := d.ofMeter[id]; m != nil && bytes.Equal(m.Raw, raw) {
		return m, nil
	}
	m, err := decodeMeter(raw)
	if err != nil {
		return nil, err
	}
	d.meters.remember(d.seed, m)
	if !sight.first(m) {
		d.ofMeter = with(d.ofMeter, id, m)
	}
	return m, nil
}

// with adds an entry to a map that is made when it is first needed.
func with[T any](m map[uuid.UUID]*T, id uuid.UUID, v *T) map[uuid.UUID]*T {
	if m == nil {
		m = make(map[uuid.UUID]*T)
	}
	m[id] = v
	return m
}

// checkNested refuses a customer meter that contradicts its nested objects.
func checkNested(m *CustomerMeter) error {
	switch {
	case m.Customer.ID != m.CustomerID:
		return fmt.Errorf("customer_id: %s, but customer.id is %s", m.CustomerID, m.Customer.ID)
	case m.Meter.ID != m.MeterID:
		return fmt.Errorf("meter_id: %s, but meter.id is %s", m.MeterID, m.Meter.ID)
	case m.Customer.OrganizationID != m.Meter.OrganizationID:
		return fmt.Errorf("customer.organization_id: %s, but meter.organization_id is %s",
			m.Customer.OrganizationID, m.Meter.OrganizationID)
	}
	return nil
}
