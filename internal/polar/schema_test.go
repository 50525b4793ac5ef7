package polar

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/go-json-experiment/json/jsontext"
	"github.com/google/go-cmp/cmp"
)

// checkStorable fails unless Postgres takes all of m as text and jsonb.
func checkStorable(t testing.TB, m *CustomerMeter) {
	t.Helper()
	for name, raw := range map[string][]byte{
		"extra": m.Extra, "customer.raw": m.Customer.Raw, "customer.metadata": m.Customer.Metadata,
		"meter.raw": m.Meter.Raw, "meter.filter": m.Meter.Filter,
		"meter.aggregation": m.Meter.Aggregation, "meter.metadata": m.Meter.Metadata,
	} {
		if raw == nil {
			continue
		}
		if !jsontext.Value(raw).IsValid() {
			t.Errorf("%s is no valid JSON: %q", name, raw)
		}
		// Every escape of U+0000 would show as a NUL once unescaped.
		var v any
		if err := json.Unmarshal(raw, &v); err != nil || strings.Contains(fmt.Sprint(v), "\x00") {
			t.Errorf("%s holds a NUL (%v): %q", name, err, raw)
		}
	}
	texts := []string{m.Customer.Type, m.Meter.Name, m.Meter.Unit}
	for _, p := range []*string{m.Customer.Email, m.Customer.Name, m.Customer.BillingName, m.Customer.ExternalID} {
		if p != nil {
			texts = append(texts, *p)
		}
	}
	for _, text := range texts {
		if strings.Contains(text, "\x00") || strings.ToValidUTF8(text, "") != text {
			t.Errorf("text %q is none for Postgres", text)
		}
	}
}

// customerVariants covers every schema that the API description reaches from a
// customer.
func customerVariants() map[string]object {
	return map[string]object{
		"individual":       individual(),
		"team":             team(),
		"team with email":  team().with("email", `"team@example.com"`),
		"address, minimal": individual().with("billing_address", `{"country":"US"}`),
		"address, full": individual().with("billing_address",
			`{"line1":"a","line2":"b","postal_code":"c","city":"d","state":"US-CA","country":"US"}`),
		"no address":       individual().with("billing_address", `null`),
		"VAT id":           individual().with("tax_id", `["FR61954506077","eu_vat"]`),
		"no tax id":        individual().with("tax_id", `null`),
		"new tax format":   individual().with("tax_id", `["1","zz_new"]`),
		"deleted":          individual().with("deleted_at", `"2026-05-01T00:00:00Z"`).with("email", `null`),
		"payment method":   individual().with("default_payment_method_id", quoted(sampleMeterID)),
		"metadata of each": individual().with("metadata", `{"s":"","i":-5,"n":1.50,"e":1e-7,"b":false,"":"empty name"}`),
		"modified":         individual().with("modified_at", `"2026-05-01T00:00:00.000001Z"`),
		"new field":        individual().with("loyalty", `{"tiers":[1,2,{"x":null}]}`),
	}
}

// meterVariants is customerVariants for meters.
func meterVariants() map[string]object {
	m := sampleMeter()
	variants := map[string]object{
		"archived":     m.with("archived_at", `"2026-05-01T00:00:00Z"`),
		"custom unit":  m.with("unit", `"custom"`).with("custom_label", `"GB"`).with("custom_multiplier", `1000`),
		"token unit":   m.with("unit", `"token"`),
		"new unit":     m.with("unit", `"furlong"`),
		"empty filter": m.with("filter", `{"conjunction":"or","clauses":[]}`),
		"nested filter": m.with("filter", `{"conjunction":"or","clauses":[{"property":"a","operator":"gte","value":-2147483648},`+
			`{"conjunction":"and","clauses":[{"property":"b","operator":"not_like","value":"%\"\\%"},{"property":"c","operator":"ne","value":true}]}]}`),
		"unique":       m.with("aggregation", `{"func":"unique","property":"user"}`),
		"unknown func": m.with("aggregation", `{"func":"median","property":"ms"}`),
		"metadata":     m.with("metadata", `{"a":1}`),
	}
	for _, f := range []string{"sum", "max", "min", "avg"} {
		variants[f] = m.with("aggregation", `{"func":"`+f+`","property":"tokens"}`)
	}
	for _, op := range []string{"eq", "ne", "gt", "gte", "lt", "lte", "like", "not_like"} {
		variants["filter "+op] = m.with("filter", `{"conjunction":"and","clauses":[{"property":"p","operator":"`+op+`","value":1}]}`)
	}
	return variants
}

func TestNoFieldOfAnySchemaIsLost(t *testing.T) {
	t.Parallel()
	for name, c := range customerVariants() {
		t.Run("customer "+name, func(t *testing.T) {
			t.Parallel()
			got := decodeOne(t, sampleItem().with("customer", c.String()))
			if diff := cmp.Diff(c.String(), string(got.Customer.Raw)); diff != "" {
				t.Errorf("raw customer differs:\n%s", diff)
			}
			checkStorable(t, &got)
		})
	}
	for name, m := range meterVariants() {
		t.Run("meter "+name, func(t *testing.T) {
			t.Parallel()
			got := decodeOne(t, sampleItem().with("meter", m.String()))
			if diff := cmp.Diff(m.String(), string(got.Meter.Raw)); diff != "" {
				t.Errorf("raw meter differs:\n%s", diff)
			}
			checkStorable(t, &got)
		})
	}
}

// TestWhiteSpaceAndEscapedNamesChangeNothing decodes the same page in another
// spelling of the same JSON.
func TestWhiteSpaceAndEscapedNamesChangeNothing(t *testing.T) {
	t.Parallel()
	plain := decodeOne(t, sampleItem())
	var indented bytes.Buffer
	if err := json.Indent(&indented, []byte(pageOf(sampleItem().String())), "\r\n", "\t"); err != nil {
		t.Fatal(err)
	}
	spelled := strings.ReplaceAll(indented.String(), `"customer_id"`, `"\u0063ustomer_id"`)
	page := decodePage(t, spelled)
	if len(page.Rejected) > 0 {
		t.Fatal(page.Rejected[0].Reason)
	}
	got := page.CustomerMeters[0]
	for _, raw := range []*[]byte{&got.Customer.Raw, &got.Customer.Metadata, &got.Meter.Raw, &got.Meter.Filter, &got.Meter.Aggregation, &got.Meter.Metadata} {
		var compact bytes.Buffer
		if err := json.Compact(&compact, *raw); err != nil {
			t.Fatal(err)
		}
		*raw = compact.Bytes()
	}
	if diff := cmp.Diff(plain, got); diff != "" {
		t.Error(diff)
	}
}
