package polar

import (
	"strconv"
	"strings"
	"testing"
)

// An object is a JSON object in the making: members in order, values raw.
type object [][2]string

// with returns a copy in which name has the raw value, in its old place if it
// had one.
func (o object) with(name, raw string) object {
	o = append(object(nil), o...)
	for i := range o {
		if o[i][0] == name {
			o[i][1] = raw
			return o
		}
	}
	return append(o, [2]string{name, raw})
}

// without returns a copy that lacks name.
func (o object) without(name string) object {
	var out object
	for _, m := range o {
		if m[0] != name {
			out = append(out, m)
		}
	}
	return out
}

// and returns a copy with another member at the end, even if there is one of
// that name.
func (o object) and(name, raw string) object {
	return append(append(object(nil), o...), [2]string{name, raw})
}

func (o object) String() string {
	var b strings.Builder
	for i, m := range o {
		b.WriteString(map[bool]string{true: "{", false: ","}[i == 0])
		b.WriteString(strconv.Quote(m[0]) + ":" + m[1])
	}
	return b.String() + "}"
}

const (
	sampleID           = "b4a33ab9-2b3c-4b39-9d4b-2e7b3a0c1d01"
	sampleCustomerID   = "0a3c1f7e-5d2b-4c1a-8e4f-6b7a8c9d0e02"
	sampleMeterID      = "7f2e4d6c-8b1a-4f3e-a5d7-9c0b1e2f3a03"
	sampleOrganization = "1dbfc517-0bbf-4301-9ba8-555ca42b9737"
)

// quoted is a JSON string that holds text as it is.
func quoted(text string) string { return `"` + text + `"` }

// individual is a valid customer of that type with every documented field.
func individual() object {
	return object{
		{"id", quoted(sampleCustomerID)},
		{"created_at", `"2026-03-01T08:00:00Z"`},
		{"modified_at", `null`},
		{"metadata", `{"plan":"pro","seats":3,"rate":0.1,"beta":true}`},
		{"external_id", `"user-1"`},
		{"email", `"ada@example.com"`},
		{"email_verified", `true`},
		{"type", `"individual"`},
		{"name", `"Ada \"L\" 😀"`},
		{"billing_name", `null`},
		{"billing_address", `{"line1":"1 Main St","line2":null,"postal_code":"8010","city":"Graz","state":null,"country":"AT"}`},
		{"tax_id", `["911144442","us_ein"]`},
		{"locale", `"de-AT"`},
		{"organization_id", quoted(sampleOrganization)},
		{"default_payment_method_id", `null`},
		{"deleted_at", `null`},
		{"first_user_event_at", `"2026-03-02T00:00:00.5Z"`},
		{"avatar_url", `"https://www.gravatar.com/avatar/x?d=404"`},
	}
}

// team is a valid customer of the other type.
func team() object {
	return individual().with("type", `"team"`).with("email", `null`).with("tax_id", `null`).with("billing_address", `null`)
}

// sampleMeter is a valid meter with every documented field.
func sampleMeter() object {
	return object{
		{"metadata", `{}`},
		{"created_at", `"2026-02-01T00:00:00Z"`},
		{"modified_at", `"2026-02-01T00:00:01.000001Z"`},
		{"id", quoted(sampleMeterID)},
		{"name", `"API calls"`},
		{"unit", `"scalar"`},
		{"custom_label", `null`},
		{"custom_multiplier", `null`},
		{"filter", `{"conjunction":"and","clauses":[{"property":"name","operator":"eq","value":"call"}]}`},
		{"aggregation", `{"func":"count"}`},
		{"organization_id", quoted(sampleOrganization)},
		{"archived_at", `null`},
	}
}

// sampleItem is a valid customer meter.
func sampleItem() object {
	return object{
		{"id", quoted(sampleID)},
		{"created_at", `"2026-04-01T12:34:56.123456Z"`},
		{"modified_at", `"2026-04-02T00:00:00Z"`},
		{"customer_id", quoted(sampleCustomerID)},
		{"meter_id", quoted(sampleMeterID)},
		{"consumed_units", `25.0`},
		{"credited_units", `100`},
		{"balance", `75.0`},
		{"customer", individual().String()},
		{"meter", sampleMeter().String()},
	}
}

// pageOf is the body of a list answer with the given items.
func pageOf(items ...string) string {
	return `{"items":[` + strings.Join(items, ",") + `],"pagination":{"total_count":` +
		strconv.Itoa(len(items)) + `,"max_page":1}}`
}

func decodePage(t testing.TB, body string) *Page {
	t.Helper()
	page, err := NewDecoder().Page([]byte(body))
	if err != nil {
		t.Fatalf("decode page: %v", err)
	}
	return page
}

// decodeOne decodes a page of one item that must be usable.
func decodeOne(t testing.TB, item object) CustomerMeter {
	t.Helper()
	page := decodePage(t, pageOf(item.String()))
	if len(page.Rejected) > 0 {
		t.Fatalf("rejected: %s", page.Rejected[0].Reason)
	}
	return page.CustomerMeters[0]
}
