package polarsim

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"time"
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

// load renders the row if that is still to be done.
func (r *row) load() *row {
	switch {
	case r.raw != nil:
		r.json = *r.raw
	case r.json == "":
		if r.meter.json == nil {
			r.meter.json = marshal(&r.meter.Meter)
		}
		r.json = fmt.Sprintf(`{%s,"customer":%s,"meter":%s}`,
			r.members(`"customer_id":"`+r.customer.id.String()+`",`), r.customer.load().json, r.meter.json)
	}
	return r
}

// members are those that a row has in a list and in a customer's state, with what
// a list has besides.
func (r *row) members(besides string) string {
	return fmt.Sprintf(`"id":"%s","created_at":%s,"modified_at":%s,%s"meter_id":"%s","consumed_units":%s,"credited_units":%s,"balance":%s`,
		r.id, Time{r.created}, Time{r.modified}, besides, r.meter.ID, r.units.Consumed, r.units.Credited, r.units.Balance)
}
