package polar

import (
	"bytes"
	"errors"
	"reflect"
	"strconv"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

// A Difference is one field in which two states of a customer meter differ.
type Difference struct {
	Field string // as the column of the mirror is called, "customer.name" for nested ones
	A, B  string // both values, as text; "null" for a missing one
}

// Diff compares two states of one customer meter, nested customer and meter
// included. Quantities are equal if the numbers are, JSON if it means the same:
// Postgres keeps neither the order of names nor white space.
func Diff(a, b *CustomerMeter) []Difference {
	var d differences
	d.text("customer_id", a.CustomerID.String(), b.CustomerID.String())
	d.text("meter_id", a.MeterID.String(), b.MeterID.String())
	d.decimal("consumed_units", a.ConsumedUnits, b.ConsumedUnits)
	d.text("credited_units", strconv.FormatInt(a.CreditedUnits, 10), strconv.FormatInt(b.CreditedUnits, 10))
	d.decimal("balance", a.Balance, b.Balance)
	d.time("created_at", a.CreatedAt, b.CreatedAt)
	d.time("modified_at", a.ModifiedAt, b.ModifiedAt)
	d.json("extra", a.Extra, b.Extra)
	if a.Customer != nil && b.Customer != nil {
		d.customer(a.Customer, b.Customer)
	}
	if a.Meter != nil && b.Meter != nil {
		d.meter(a.Meter, b.Meter)
	}
	return d
}

type differences []Difference

func (d *differences) customer(a, b *Customer) {
	d.text("customer.type", a.Type, b.Type)
	d.optional("customer.external_id", a.ExternalID, b.ExternalID)
	d.optional("customer.email", a.Email, b.Email)
	d.text("customer.email_verified", strconv.FormatBool(a.EmailVerified), strconv.FormatBool(b.EmailVerified))
	d.optional("customer.name", a.Name, b.Name)
	d.optional("customer.billing_name", a.BillingName, b.BillingName)
	d.json("customer.metadata", a.Metadata, b.Metadata)
	d.time("customer.created_at", a.CreatedAt, b.CreatedAt)
	d.time("customer.modified_at", a.ModifiedAt, b.ModifiedAt)
	d.time("customer.deleted_at", a.DeletedAt, b.DeletedAt)
	d.json("customer.raw", a.Raw, b.Raw)
}

func (d *differences) meter(a, b *Meter) {
	d.text("meter.name", a.Name, b.Name)
	d.text("meter.unit", a.Unit, b.Unit)
	d.json("meter.aggregation", a.Aggregation, b.Aggregation)
	d.json("meter.filter", a.Filter, b.Filter)
	d.json("meter.metadata", a.Metadata, b.Metadata)
	d.time("meter.created_at", a.CreatedAt, b.CreatedAt)
	d.time("meter.modified_at", a.ModifiedAt, b.ModifiedAt)
	d.time("meter.archived_at", a.ArchivedAt, b.ArchivedAt)
	d.json("meter.raw", a.Raw, b.Raw)
}

func (d *differences) text(field, a, b string) {
	if a != b {
		*d = append(*d, Difference{Field: field, A: a, B: b})
	}
}

func (d *differences) optional(field string, a, b *string) {
	if (a == nil) != (b == nil) || (a != nil && *a != *b) {
		*d = append(*d, Difference{Field: field, A: textOf(a), B: textOf(b)})
	}
}

func (d *differences) decimal(field string, a, b Decimal) {
	if !a.Equal(b) {
		*d = append(*d, Difference{Field: field, A: a.String(), B: b.String()})
	}
}

func (d *differences) time(field string, a, b time.Time) {
	if !a.Equal(b) {
		*d = append(*d, Difference{Field: field, A: timeText(a), B: timeText(b)})
	}
}

func (d *differences) json(field string, a, b []byte) {
	if !EqualJSON(a, b) {
		*d = append(*d, Difference{Field: field, A: jsonOrNull(a), B: jsonOrNull(b)})
	}
}

func textOf(s *string) string {
	if s == nil {
		return "null"
	}
	return *s
}

func timeText(t time.Time) string {
	if t.IsZero() {
		return "null"
	}
	return t.UTC().Format(time.RFC3339Nano)
}

func jsonOrNull(b []byte) string {
	if b == nil {
		return "null"
	}
	return string(b)
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
