package polarsim

import (
	"encoding/hex"
	"strconv"
	"time"

	"github.com/google/uuid"
)

// appendRow writes the row as it goes over the wire. The nested objects are
// rendered once and copied from then on; they are most of the bytes.
func appendRow(b []byte, r *row) []byte {
	if r.odd != nil && r.odd.hasRaw {
		return append(b, r.odd.raw...)
	}
	r.customer.load()
	r.meter.load()
	b = appendHead(b, r)
	b = append(b, r.customer.json...)
	b = append(b, betweenObjects...)
	b = append(b, r.meter.json...)
	if r.odd != nil {
		b = appendExtra(b, r.odd.extra)
	}
	return append(b, '}')
}

// betweenObjects stands between the two nested objects of a row.
const betweenObjects = `,"meter":`

// appendHead writes what stands before the nested objects.
func appendHead(b []byte, r *row) []byte {
	b = append(b, `{"id":`...)
	b = appendID(b, r.id)
	b = append(b, `,"created_at":`...)
	b = appendMicros(b, r.created)
	b = append(b, `,"modified_at":`...)
	b = appendMicros(b, r.modified)
	b = append(b, `,"customer_id":`...)
	b = appendID(b, r.customer.id)
	b = append(b, `,"meter_id":`...)
	b = appendID(b, r.meter.id)
	b = append(b, `,"consumed_units":`...)
	b = append(b, r.units.Consumed...)
	b = append(b, `,"credited_units":`...)
	b = append(b, r.units.Credited...)
	b = append(b, `,"balance":`...)
	b = append(b, r.units.Balance...)
	return append(b, `,"customer":`...)
}

func appendCustomer(b []byte, c *Customer) []byte {
	b = append(b, `{"id":`...)
	b = appendID(b, c.ID)
	b = appendTime(append(b, `,"created_at":`...), c.CreatedAt)
	b = appendTime(append(b, `,"modified_at":`...), c.ModifiedAt)
	b = appendJSON(append(b, `,"metadata":`...), c.Metadata)
	b = appendText(append(b, `,"external_id":`...), c.ExternalID)
	b = appendText(append(b, `,"email":`...), c.Email)
	b = strconv.AppendBool(append(b, `,"email_verified":`...), c.EmailVerified)
	b = appendString(append(b, `,"type":`...), c.Type)
	b = appendText(append(b, `,"name":`...), c.Name)
	b = appendText(append(b, `,"billing_name":`...), c.BillingName)
	b = appendAddress(append(b, `,"billing_address":`...), c.BillingAddress)
	b = appendTaxID(append(b, `,"tax_id":`...), c.TaxID)
	b = appendText(append(b, `,"locale":`...), c.Locale)
	b = appendID(append(b, `,"organization_id":`...), c.OrganizationID)
	b = append(b, `,"default_payment_method_id":`...)
	if c.DefaultPaymentMethodID == nil {
		b = append(b, "null"...)
	} else {
		b = appendID(b, *c.DefaultPaymentMethodID)
	}
	b = appendTime(append(b, `,"deleted_at":`...), c.DeletedAt)
	b = appendTime(append(b, `,"first_user_event_at":`...), c.FirstUserEventAt)
	b = appendText(append(b, `,"avatar_url":`...), c.AvatarURL)
	b = appendExtra(b, c.Extra)
	return append(b, '}')
}

func appendMeter(b []byte, m *Meter) []byte {
	b = appendJSON(append(b, `{"metadata":`...), m.Metadata)
	b = appendTime(append(b, `,"created_at":`...), m.CreatedAt)
	b = appendTime(append(b, `,"modified_at":`...), m.ModifiedAt)
	b = appendID(append(b, `,"id":`...), m.ID)
	b = appendString(append(b, `,"name":`...), m.Name)
	b = appendString(append(b, `,"unit":`...), m.Unit)
	b = appendText(append(b, `,"custom_label":`...), m.CustomLabel)
	b = append(b, `,"custom_multiplier":`...)
	if m.CustomMultiplier == nil {
		b = append(b, "null"...)
	} else {
		b = strconv.AppendInt(b, *m.CustomMultiplier, 10)
	}
	b = appendJSON(append(b, `,"filter":`...), m.Filter)
	b = appendJSON(append(b, `,"aggregation":`...), m.Aggregation)
	b = appendID(append(b, `,"organization_id":`...), m.OrganizationID)
	b = appendTime(append(b, `,"archived_at":`...), m.ArchivedAt)
	b = appendExtra(b, m.Extra)
	return append(b, '}')
}

func appendAddress(b []byte, a *Address) []byte {
	if a == nil {
		return append(b, "null"...)
	}
	b = appendFilled(append(b, `{"line1":`...), a.Line1)
	b = appendFilled(append(b, `,"line2":`...), a.Line2)
	b = appendFilled(append(b, `,"postal_code":`...), a.PostalCode)
	b = appendFilled(append(b, `,"city":`...), a.City)
	b = appendFilled(append(b, `,"state":`...), a.State)
	b = appendString(append(b, `,"country":`...), a.Country)
	return append(b, '}')
}

func appendTaxID(b []byte, t *TaxID) []byte {
	if t == nil {
		return append(b, "null"...)
	}
	b = appendString(append(b, '['), t.Number)
	b = appendString(append(b, ','), t.Format)
	return append(b, ']')
}

func appendFilled(b []byte, s string) []byte {
	if s == "" {
		return append(b, "null"...)
	}
	return appendString(b, s)
}

func appendText(b []byte, s *string) []byte {
	if s == nil {
		return append(b, "null"...)
	}
	return appendString(b, *s)
}

func appendJSON(b []byte, text string) []byte {
	if text == "" {
		return append(b, "{}"...)
	}
	return append(b, text...)
}

func appendExtra(b []byte, members string) []byte {
	if members == "" {
		return b
	}
	return append(append(b, ','), members...)
}

func appendID(b []byte, id uuid.UUID) []byte {
	b = append(b, '"')
	b = hex.AppendEncode(b, id[:4])
	for _, part := range [][]byte{id[4:6], id[6:8], id[8:10], id[10:]} {
		b = append(b, '-')
		b = hex.AppendEncode(b, part)
	}
	return append(b, '"')
}

func appendTime(b []byte, t time.Time) []byte { return appendMicros(b, nullable(t)) }

// appendMicros writes RFC 3339 in UTC with six fractional digits, or none when
// they are zero.
func appendMicros(b []byte, us int64) []byte {
	if us == never {
		return append(b, "null"...)
	}
	layout := `"2006-01-02T15:04:05.000000Z"`
	if us%1_000_000 == 0 {
		layout = `"2006-01-02T15:04:05Z"`
	}
	return time.UnixMicro(us).UTC().AppendFormat(b, layout)
}

// appendString writes a JSON string as the real server does: everything but
// what JSON forbids stays as it is, so emoji and all scripts are UTF-8.
// Bytes that are no UTF-8 stay too; a test that puts them in wants them out.
func appendString(b []byte, s string) []byte {
	const digits = "0123456789abcdef"
	b = append(b, '"')
	for i := range len(s) {
		switch c := s[i]; {
		case c == '"' || c == '\\':
			b = append(b, '\\', c)
		case c == '\n':
			b = append(b, '\\', 'n')
		case c == '\r':
			b = append(b, '\\', 'r')
		case c == '\t':
			b = append(b, '\\', 't')
		case c < 0x20:
			b = append(b, '\\', 'u', '0', '0', digits[c>>4], digits[c&15])
		default:
			b = append(b, c)
		}
	}
	return append(b, '"')
}
