package polar

import (
	"bytes"
	"errors"
)

// customerFields are the fields without which a customer can't be mirrored;
// modified_at may be null.
var customerFields = []string{"id", "created_at", "modified_at", "organization_id"}

// decodeCustomer decodes a well-formed value. Metadata lies in Raw, the rest of
// the customer holds copies.
func decodeCustomer(raw []byte) (*Customer, error) {
	if raw[0] != '{' {
		return nil, wantKind("an object", raw)
	}
	c := &Customer{Raw: bytes.Clone(raw)}
	var texts [4]string // one allocation for the optional strings
	var seen fieldSet
	w := walk(c.Raw)
	for name, value, ok := w.next(); ok; name, value, ok = w.next() {
		var err error
		switch string(name) {
		case "id":
			seen |= 1 << 0
			c.ID, err = decodeUUID(value)
		case "created_at":
			seen |= 1 << 1
			c.CreatedAt, err = decodeTime(value)
		case "modified_at":
			seen |= 1 << 2
			c.ModifiedAt, err = decodeOptionalTime(value)
		case "organization_id":
			seen |= 1 << 3
			c.OrganizationID, err = decodeUUID(value)
		case "deleted_at":
			c.DeletedAt, err = decodeOptionalTime(value)
		case "type":
			c.Type, err = decodeWord(value, "individual", "team")
		case "email_verified":
			c.EmailVerified, err = decodeBool(value)
		case "metadata":
			c.Metadata, err = decodeObject(value)
		case "external_id":
			c.ExternalID, err = decodeOptional(value, &texts[0])
		case "email":
			c.Email, err = decodeOptional(value, &texts[1])
		case "name":
			c.Name, err = decodeOptional(value, &texts[2])
		case "billing_name":
			c.BillingName, err = decodeOptional(value, &texts[3])
		}
		if err = w.check(name, err); err != nil {
			return nil, err
		}
	}
	return c, seen.missing(customerFields)
}

// meterFields are the fields without which a meter can't be mirrored;
// modified_at may be null.
var meterFields = []string{"id", "created_at", "modified_at", "organization_id", "name"}

// decodeMeter decodes a well-formed value. Metadata, Filter and Aggregation lie
// in Raw, the rest of the meter holds copies.
func decodeMeter(raw []byte) (*Meter, error) {
	if raw[0] != '{' {
		return nil, wantKind("an object", raw)
	}
	m := &Meter{Raw: bytes.Clone(raw)}
	var seen fieldSet
	w := walk(m.Raw)
	for name, value, ok := w.next(); ok; name, value, ok = w.next() {
		var err error
		switch string(name) {
		case "id":
			seen |= 1 << 0
			m.ID, err = decodeUUID(value)
		case "created_at":
			seen |= 1 << 1
			m.CreatedAt, err = decodeTime(value)
		case "modified_at":
			seen |= 1 << 2
			m.ModifiedAt, err = decodeOptionalTime(value)
		case "organization_id":
			seen |= 1 << 3
			m.OrganizationID, err = decodeUUID(value)
		case "name":
			seen |= 1 << 4
			m.Name, err = decodeString(value)
		case "archived_at":
			m.ArchivedAt, err = decodeOptionalTime(value)
		case "unit":
			m.Unit, err = decodeWord(value, "scalar", "token", "custom")
		case "aggregation":
			m.Aggregation, err = decodeObject(value)
		case "filter":
			m.Filter, err = decodeObject(value)
		case "metadata":
			m.Metadata, err = decodeObject(value)
		}
		if err = w.check(name, err); err != nil {
			return nil, err
		}
	}
	return m, seen.missing(meterFields)
}

// check returns the error of the member just returned: err, or the walker's own
// trouble with its value.
func (w *walker) check(name []byte, err error) error {
	if err == nil && w.trouble != "" {
		err = errors.New(w.trouble)
	}
	if err == nil {
		return nil
	}
	return &fieldError{field: fieldName(name), err: err}
}
