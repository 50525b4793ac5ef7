package polar

import (
	"bytes"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

// A Field is one field of a customer meter as the mirror has it.
type Field struct {
	Name  string // as the column of the mirror is called, "customer.name" for nested ones
	value any    // string, bool, int64, Decimal, time.Time, *string, or JSON as []byte
}

// Fields returns the fields of a customer meter, nested customer and meter included
// if it has them.
func (m *CustomerMeter) Fields() []Field {
	fields := []Field{
		{"customer_id", m.CustomerID.String()},
		{"meter_id", m.MeterID.String()},
		{"consumed_units", m.ConsumedUnits},
		{"credited_units", m.CreditedUnits},
		{"balance", m.Balance},
		{"created_at", m.CreatedAt},
		{"modified_at", m.ModifiedAt},
		{"extra", m.Extra},
	}
	if c := m.Customer; c != nil {
		fields = append(fields,
			Field{"customer.type", c.Type},
			Field{"customer.external_id", c.ExternalID},
			Field{"customer.email", c.Email},
			Field{"customer.email_verified", c.EmailVerified},
			Field{"customer.name", c.Name},
			Field{"customer.billing_name", c.BillingName},
			Field{"customer.metadata", c.Metadata},
			Field{"customer.created_at", c.CreatedAt},
			Field{"customer.modified_at", c.ModifiedAt},
			Field{"customer.deleted_at", c.DeletedAt},
			Field{"customer.raw", c.Raw})
	}
	if t := m.Meter; t != nil {
		fields = append(fields,
			Field{"meter.name", t.Name},
			Field{"meter.unit", t.Unit},
			Field{"meter.aggregation", t.Aggregation},
			Field{"meter.filter", t.Filter},
			Field{"meter.metadata", t.Metadata},
			Field{"meter.created_at", t.CreatedAt},
			Field{"meter.modified_at", t.ModifiedAt},
			Field{"meter.archived_at", t.ArchivedAt},
			Field{"meter.raw", t.Raw})
	}
	return fields
}

// String is the value as text, "null" for a missing one.
func (f Field) String() string {
	switch v := f.value.(type) {
	case *string:
		if v != nil {
			return *v
		}
	case []byte:
		if v != nil {
			return string(v)
		}
	case time.Time:
		if !v.IsZero() {
			return v.UTC().Format(time.RFC3339Nano)
		}
	default:
		return fmt.Sprint(v)
	}
	return "null"
}

// equal compares quantities as numbers and JSON by what it means: Postgres keeps
// neither the order of names nor white space.
func (f Field) equal(o Field) bool {
	switch v := f.value.(type) {
	case Decimal:
		return v.Equal(o.value.(Decimal))
	case time.Time:
		return v.Equal(o.value.(time.Time))
	case []byte:
		return EqualJSON(v, o.value.([]byte))
	case *string:
		w := o.value.(*string)
		return v == w || v != nil && w != nil && *v == *w
	}
	return f.value == o.value
}

// A Difference is one field in which two states of a customer meter differ.
type Difference struct {
	Field string // its name
	A, B  string // both values, as text; "null" for a missing one
}

// Diff compares two states of one customer meter, and nested customers and meters
// if both have them.
func Diff(a, b *CustomerMeter) []Difference {
	var differences []Difference
	others := b.Fields()
	for _, f := range a.Fields() {
		i := slices.IndexFunc(others, func(o Field) bool { return o.Name == f.Name })
		if i >= 0 && !f.equal(others[i]) {
			differences = append(differences, Difference{f.Name, f.String(), others[i].String()})
		}
	}
	return differences
}

// EqualJSON reports whether two JSON texts mean the same: names in any order,
// numbers by value. A missing text (nil) equals only a missing text.
func EqualJSON(a, b []byte) bool {
	if a == nil || b == nil {
		return a == nil && b == nil
	}
	if bytes.Equal(a, b) {
		return true
	}
	var x, y any
	return json.Unmarshal(a, &x, byValue) == nil && json.Unmarshal(b, &y, byValue) == nil && reflect.DeepEqual(x, y)
}

// byValue decodes numbers into the form that equal numbers share.
var byValue = json.WithUnmarshalers(json.UnmarshalFromFunc(func(dec *jsontext.Decoder, v *any) error {
	if dec.PeekKind() != '0' {
		return errors.ErrUnsupported
	}
	text, err := dec.ReadValue()
	if err != nil {
		return err
	}
	*v, err = normalize(string(text))
	return err
}))
