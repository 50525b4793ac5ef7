package polar

import (
	"strings"
	"testing"

	"github.com/google/uuid"
)

func TestDecodePageRejectsWhatItCannotMirror(t *testing.T) {
	t.Parallel()
	other := quoted("ffffffff-ffff-4fff-bfff-ffffffffffff")
	c, m, item := individual(), sampleMeter(), sampleItem()
	customer := func(o object) object { return item.with("customer", o.String()) }
	meter := func(o object) object { return item.with("meter", o.String()) }
	for _, test := range []struct {
		name   string
		item   string
		reason string // contained in Reason
		noID   bool
		noKey  bool
	}{
		{"no id", item.without("id").String(), "id: missing", true, false},
		{"null id", item.with("id", "null").String(), "id: null instead of a UUID", true, false},
		{"id in braces", item.with("id", quoted("{"+sampleID+"}")).String(), "is no UUID", true, false},
		{"id without dashes", item.with("id", quoted(strings.ReplaceAll(sampleID, "-", ""))).String(), "is no UUID", true, false},
		{"zero id", item.with("id", quoted(uuid.Nil.String())).String(), "id: the zero UUID", true, false},
		{"zero key", item.with("customer_id", quoted(uuid.Nil.String())).String(), "customer_id: the zero UUID", false, true},
		{"zero organization", customer(c.with("organization_id", quoted(uuid.Nil.String()))).String(), "customer.organization_id: the zero UUID", false, false},
		{"not an object", `[1]`, "an array instead of an object", true, true},
		{"null", `null`, "null instead of an object", true, true},
		{"huge number", item.with("consumed_units", "1e400000").String(), "consumed_units: number 1e400000: beyond", false, false},
		{"number as string", item.with("balance", `"1.5"`).String(), "balance: a string instead of a number", false, false},
		{"null number", item.with("balance", `null`).String(), "balance: null instead", false, false},
		{"fraction of a credit", item.with("credited_units", "1.5").String(), "credited_units: 1.5 is no 64-bit integer", false, false},
		{"credits beyond 64 bit", item.with("credited_units", "9223372036854775808").String(), "credited_units", false, false},
		{"no modified_at", item.without("modified_at").String(), "modified_at: missing", false, false},
		{"no created_at", item.without("created_at").String(), "created_at: missing", false, true},
		{"bad day", item.with("created_at", `"2026-02-30T00:00:00Z"`).String(), "created_at", false, true},
		{"no zone", item.with("created_at", `"2026-02-03T00:00:00"`).String(), "RFC 3339", false, true},
		{"zero time", item.with("modified_at", `"0001-01-01T00:00:00Z"`).String(), "out of range", false, false},
		{"no customer", item.without("customer").String(), "customer: missing", false, false},
		{"null customer", item.with("customer", "null").String(), "customer: null instead of an object", false, false},
		{"no meter", item.without("meter").String(), "meter: missing", false, false},
		{"other customer", item.with("customer_id", other).String(), "customer_id: ffffffff", false, false},
		{"other meter", item.with("meter_id", other).String(), "meter_id: ffffffff", false, false},
		{"other organization", customer(c.with("organization_id", other)).String(), "customer.organization_id", false, false},
		{"customer without id", customer(c.without("id")).String(), "customer.id: missing", false, false},
		{"numeric name", customer(c.with("name", "5")).String(), "customer.name: a number instead of a string", false, false},
		{"metadata no object", customer(c.with("metadata", "[]")).String(), "customer.metadata: an array instead", false, false},
		{"number in metadata no numeric", customer(c.with("metadata", `{"a":[1e400000]}`)).String(), "customer.metadata.a.0: number 1e400000", false, false},
		{"number in an unknown field no numeric", item.with("new", "1e-20000").String(), "new: number", false, false},
		{"meter without name", meter(m.without("name")).String(), "meter.name: missing", false, false},
		{"bad archived_at", meter(m.with("archived_at", `"today"`)).String(), "meter.archived_at", false, false},
		{"deeper than jsonb can take", meter(m.with("filter", repeated(`{"clauses":`, 5000, `}`))).String(), "nested too deeply", false, false},
		{"invalid UTF-8", customer(c.with("name", "\"\xff\"")).String(), "customer.name: invalid UTF-8", false, false},
		{"lone surrogate", customer(c.with("name", `"\ud800"`)).String(), "customer.name: lone surrogate", false, false},
		{"name twice", item.and("balance", "1").String(), "balance: name is there twice", false, false},
		{"nested name twice", customer(c.and("email", `"x"`)).String(), "customer.email: name is there twice", false, false},
		{"id twice", item.and("id", other).String(), "id: name is there twice", true, false},
		{"id twice alike", item.and("id", quoted(sampleID)).String(), "id: name is there twice", false, false},
		{"key twice", item.and("meter_id", other).String(), "meter_id: name is there twice", false, true},
		{"NUL makes two names one", strings.TrimSuffix(item.String(), "}") + `,"a\u0000":1,"a\ufffd":2}`, "name is there twice", false, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			good := sampleItem().String()
			page := decodePage(t, pageOf(good, test.item, good))
			if len(page.CustomerMeters) != 2 || len(page.Rejected) != 1 {
				t.Fatalf("%d usable and %d rejected, want 2 and 1", len(page.CustomerMeters), len(page.Rejected))
			}
			got := page.Rejected[0]
			if got.Index != 1 || string(got.Raw) != test.item {
				t.Errorf("row %d, raw %q", got.Index, got.Raw)
			}
			if !strings.Contains(got.Reason, test.reason) || strings.ContainsAny(got.Reason, "\n\x00") {
				t.Errorf("reason %q, want %q in it", got.Reason, test.reason)
			}
			if (got.ID == uuid.Nil) != test.noID || got.HasKey == test.noKey {
				t.Errorf("ID %v, HasKey %v", got.ID, got.HasKey)
			}
			if _, rejected, err := DecodeCustomerMeter([]byte(test.item)); err == nil && rejected == nil {
				t.Error("DecodeCustomerMeter takes it")
			}
		})
	}
}

// repeated nests open around an empty string.
func repeated(open string, depth int, shut string) string {
	return strings.Repeat(open, depth) + `""` + strings.Repeat(shut, depth)
}
