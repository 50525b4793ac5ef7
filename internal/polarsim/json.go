package polarsim

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"github.com/google/uuid"
)

// A Time is written as Polar writes times: RFC 3339 in UTC with six fractional
// digits, or none when they are zero; the zero time as null.
type Time struct{ time.Time }

// MarshalJSON writes the time.
func (t Time) MarshalJSON() ([]byte, error) {
	layout := `"2006-01-02T15:04:05.000000Z"`
	switch {
	case t.IsZero():
		layout = "null"
	case t.Nanosecond() == 0:
		layout = `"2006-01-02T15:04:05Z"`
	}
	return t.UTC().AppendFormat(nil, layout), nil
}

// String is the JSON.
func (t Time) String() string {
	text, _ := t.MarshalJSON()
	return string(text)
}

// A Literal is JSON put in as it is.
type Literal string

// MarshalJSON returns the text.
func (l Literal) MarshalJSON() ([]byte, error) { return []byte(l), nil }

// MarshalJSON writes the array of the two.
func (t TaxID) MarshalJSON() ([]byte, error) { return marshal([]string{t.Number, t.Format}), nil }

// marshal returns v as JSON in which only what JSON forbids is escaped, as the
// real server does it.
func marshal(v any) []byte {
	var b bytes.Buffer
	out := json.NewEncoder(&b)
	out.SetEscapeHTML(false)
	if err := out.Encode(v); err != nil {
		panic("polarsim: " + err.Error()) // a test has put in a literal that is no JSON
	}
	return slices.Clip(bytes.TrimSuffix(b.Bytes(), []byte("\n")))
}

// rendered renders a row. The nested objects are rendered once and shared from
// then on; they are most of the bytes.
func (r *row) rendered() Rendered {
	out := Rendered{ID: r.id, CustomerID: r.customer.id, MeterID: r.meter.ID, CreatedAt: r.created, ModifiedAt: r.modified}
	if r.raw != nil {
		out.parts[0] = []byte(*r.raw)
		return out
	}
	if r.meter.json == nil {
		r.meter.json = fmt.Appendf(nil, `,"meter":%s}`, marshal(&r.meter.Meter))
	}
	head := append(make([]byte, 0, bytesPerHead), '{')
	head = append(r.appendMembers(head, `"customer_id":"`+r.customer.id.String()+`",`), `,"customer":`...)
	out.parts = [3][]byte{head, r.customer.load().json, r.meter.json}
	return out
}

// appendMembers writes those that a row has in a list and in a customer's state,
// with what a list has besides.
func (r *row) appendMembers(b []byte, besides string) []byte {
	return fmt.Appendf(b, `"id":"%s","created_at":%s,"modified_at":%s,%s"meter_id":"%s","consumed_units":%s,"credited_units":%s,"balance":%s`,
		r.id, Time{r.created}, Time{r.modified}, besides, r.meter.ID, r.units.Consumed, r.units.Credited, r.units.Balance)
}

const (
	bytesPerHead = 352  // about what stands in a row before its nested objects
	bytesPerRow  = 1800 // about what a row takes; for sizing buffers
)

// A Rendered is one customer meter as it goes over the wire, rendered once to
// be sent many times. It shares the text of its customer and its meter with
// their other rows, so that a million of them take some 800 MB, and it does not
// change when they do.
type Rendered struct {
	ID         uuid.UUID
	CustomerID uuid.UUID
	MeterID    uuid.UUID
	CreatedAt  time.Time // UTC, microseconds
	ModifiedAt time.Time // likewise; zero for null

	parts [3][]byte // what stands before the customer, the customer, the meter and the end
}

// AppendTo adds the JSON to b.
func (r *Rendered) AppendTo(b []byte) []byte {
	for _, part := range r.parts {
		b = append(b, part...)
	}
	return b
}

// Size is the length of the JSON in bytes.
func (r *Rendered) Size() int {
	n := 0
	for _, part := range r.parts {
		n += len(part)
	}
	return n
}
