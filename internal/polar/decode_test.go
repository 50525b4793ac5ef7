package polar

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
)

func ptr(s string) *string { return &s }

func TestDecodePageKeepsEveryTypedField(t *testing.T) {
	t.Parallel()
	got := decodePage(t, pageOf(sampleItem().String()))
	want := &Page{TotalCount: 1, MaxPage: 1, CustomerMeters: []CustomerMeter{{
		ID:            uuid.MustParse(sampleID),
		CustomerID:    uuid.MustParse(sampleCustomerID),
		MeterID:       uuid.MustParse(sampleMeterID),
		ConsumedUnits: mustDecimal(t, "25"),
		CreditedUnits: 100,
		Balance:       mustDecimal(t, "75"),
		CreatedAt:     time.Date(2026, 4, 1, 12, 34, 56, 123456000, time.UTC),
		ModifiedAt:    time.Date(2026, 4, 2, 0, 0, 0, 0, time.UTC),
		Customer: &Customer{
			ID:             uuid.MustParse(sampleCustomerID),
			OrganizationID: uuid.MustParse(sampleOrganization),
			ExternalID:     ptr("user-1"),
			Type:           "individual",
			Email:          ptr("ada@example.com"),
			EmailVerified:  true,
			Name:           ptr(`Ada "L" 😀`),
			Metadata:       []byte(`{"plan":"pro","seats":3,"rate":0.1,"beta":true}`),
			CreatedAt:      time.Date(2026, 3, 1, 8, 0, 0, 0, time.UTC),
			Raw:            []byte(individual().String()),
		},
		Meter: &Meter{
			ID:             uuid.MustParse(sampleMeterID),
			OrganizationID: uuid.MustParse(sampleOrganization),
			Name:           "API calls",
			Unit:           "scalar",
			Aggregation:    []byte(`{"func":"count"}`),
			Filter:         []byte(`{"conjunction":"and","clauses":[{"property":"name","operator":"eq","value":"call"}]}`),
			Metadata:       []byte(`{}`),
			CreatedAt:      time.Date(2026, 2, 1, 0, 0, 0, 0, time.UTC),
			ModifiedAt:     time.Date(2026, 2, 1, 0, 0, 1, 1000, time.UTC),
			Raw:            []byte(sampleMeter().String()),
		},
	}}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("page differs (-want +got):\n%s", diff)
	}
	if got := got.CustomerMeters[0].ConsumedUnits.String(); got != "25.0" {
		t.Errorf("digits %s, want 25.0", got)
	}
}

func TestDecodePageKeepsDigitsExactly(t *testing.T) {
	t.Parallel()
	for _, digits := range []string{
		"0", "-0", "0.1", "1e-7", "12345678901234.123456", "9007199254740993", "-12.50",
		"1E+5", "1e131071", "0.1000000000000000055511151231257827",
	} {
		m := decodeOne(t, sampleItem().with("consumed_units", digits).with("balance", digits))
		if m.ConsumedUnits.String() != digits || m.Balance.String() != digits {
			t.Errorf("%s became %s and %s", digits, m.ConsumedUnits, m.Balance)
		}
	}
}

func TestCreditedUnitsAreIntegersAsJSONSchemaMeansThem(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		raw  string
		want int64
	}{
		{"9223372036854775807", 1<<63 - 1},
		{"-9223372036854775808", -1 << 63},
		{"100.0", 100}, {"1e2", 100}, {"-0", 0}, {"0e99", 0},
		{"9.223372036854775807e18", 1<<63 - 1},
		{"9007199254740993", 1<<53 + 1},
	} {
		if got := decodeOne(t, sampleItem().with("credited_units", test.raw)).CreditedUnits; got != test.want {
			t.Errorf("%s became %d", test.raw, got)
		}
	}
}

func TestDecodePageToleratesWhatLosesNothing(t *testing.T) {
	t.Parallel()
	c, m := individual(), sampleMeter()
	for _, name := range []string{"avatar_url", "external_id", "metadata", "email", "name", "billing_name", "type",
		"email_verified", "locale", "deleted_at", "tax_id", "billing_address"} {
		decodeOne(t, sampleItem().with("customer", c.without(name).String()))
	}
	for _, name := range []string{"metadata", "filter", "aggregation", "unit", "archived_at", "custom_label"} {
		decodeOne(t, sampleItem().with("meter", m.without(name).String()))
		decodeOne(t, sampleItem().with("meter", m.with(name, "null").String()))
	}
	got := decodeOne(t, sampleItem().with("meter", m.with("unit", `"bytes"`).String()).
		with("customer", c.with("type", `"robot"`).String()))
	if got.Meter.Unit != "bytes" || got.Customer.Type != "robot" {
		t.Errorf("unknown words became %q and %q", got.Meter.Unit, got.Customer.Type)
	}
	upper := decodeOne(t, sampleItem().with("id", quoted(strings.ToUpper(sampleID))))
	if upper.ID != uuid.MustParse(sampleID) {
		t.Errorf("upper-case id became %s", upper.ID)
	}
}

func TestUnknownFieldsGoToExtraInTheirOrder(t *testing.T) {
	t.Parallel()
	item := sampleItem().with("zeta", `{"a":[1,2.50]}`).with("alpha \"", `null`)
	m := decodeOne(t, item)
	if got, want := string(m.Extra), `{"zeta":{"a":[1,2.50]},"alpha \"":null}`; got != want {
		t.Errorf("Extra = %s, want %s", got, want)
	}
	if m := decodeOne(t, sampleItem()); m.Extra != nil {
		t.Errorf("Extra = %s without unknown fields", m.Extra)
	}
}

func TestTimestampsAreKeptToTheMicrosecondInUTC(t *testing.T) {
	t.Parallel()
	for raw, want := range map[string]string{
		"2026-04-01T12:34:56Z":                "2026-04-01T12:34:56Z",
		"2026-04-01T12:34:56.1Z":              "2026-04-01T12:34:56.1Z",
		"2026-04-01T12:34:56.123456Z":         "2026-04-01T12:34:56.123456Z",
		"2026-04-01T12:34:56.1234569+00:00":   "2026-04-01T12:34:56.123456Z",
		"2026-04-01T23:34:56.5-02:30":         "2026-04-02T02:04:56.5Z",
		"2024-02-29T00:00:00+23:59":           "2024-02-28T00:01:00Z",
		"2026-04-01T12:34:56.00000000000001Z": "2026-04-01T12:34:56Z",
	} {
		m := decodeOne(t, sampleItem().with("created_at", quoted(raw)))
		if got := m.CreatedAt.Format(time.RFC3339Nano); got != want {
			t.Errorf("%s became %s, want %s", raw, got, want)
		}
	}
}

func TestNULBecomesTheReplacementCharacterEverywhere(t *testing.T) {
	t.Parallel()
	c := individual().with("name", `"a\u0000b\\u0000\\\u0000"`).with("metadata", `{"k":"\u0000"}`)
	raw := strings.Replace(c.String(), `"k"`, `"k\u0000"`, 1)
	item := sampleItem().with("customer", raw).
		with("meter", sampleMeter().with("filter", `{"x":"\u0000"}`).with("name", `"\u0000"`).String()).
		with("new", `"\u0000\u0001"`)
	page := decodePage(t, pageOf(item.String()))
	if len(page.Rejected) > 0 {
		t.Fatal(page.Rejected[0].Reason)
	}
	m := page.CustomerMeters[0]
	if page.NULsReplaced != 7 {
		t.Errorf("NULsReplaced = %d, want 7", page.NULsReplaced)
	}
	if got, want := *m.Customer.Name, "a\uFFFDb\\u0000\\\uFFFD"; got != want {
		t.Errorf("name = %q, want %q", got, want)
	}
	for got, want := range map[string]string{
		string(m.Customer.Metadata): `{"k\ufffd":"\ufffd"}`,
		string(m.Meter.Filter):      `{"x":"\ufffd"}`,
		string(m.Extra):             `{"new":"\ufffd\u0001"}`,
		m.Meter.Name:                "\uFFFD",
	} {
		if got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}
	checkStorable(t, &m)
}

func TestIdenticalNestedObjectsAreShared(t *testing.T) {
	t.Parallel()
	renamed := sampleItem().with("customer", individual().with("name", `"Eve"`).String())
	page := decodePage(t, pageOf(sampleItem().String(), sampleItem().String(), renamed.String()))
	ms := page.CustomerMeters
	if ms[0].Customer != ms[1].Customer || ms[0].Meter != ms[1].Meter || ms[1].Meter != ms[2].Meter {
		t.Error("identical nested objects were decoded twice")
	}
	if ms[2].Customer == ms[0].Customer || *ms[2].Customer.Name != "Eve" {
		t.Error("different customers of one id share an object")
	}
}

func TestPageDoesNotReferToTheBody(t *testing.T) {
	t.Parallel()
	body := []byte(pageOf(sampleItem().with("new", `"x"`).String(), sampleItem().with("id", "0").String()))
	page := decodePage(t, string(body))
	again, err := NewDecoder().Page(body)
	if err != nil {
		t.Fatal(err)
	}
	for i := range body {
		body[i] = '!'
	}
	if diff := cmp.Diff(page, again); diff != "" {
		t.Errorf("overwriting the body changed the page:\n%s", diff)
	}
}

func TestBodiesOfAnotherShapeAreErrors(t *testing.T) {
	t.Parallel()
	whole := pageOf(sampleItem().String())
	for _, body := range []string{
		"", " ", "null", "[]", "5", `"items"`, "<html>not JSON</html>", "{", "{}", `{"items":[]}`,
		`{"pagination":{"total_count":0,"max_page":0}}`,
		`{"items":{},"pagination":{"total_count":0,"max_page":0}}`,
		`{"items":null,"pagination":{"total_count":0,"max_page":0}}`,
		`{"items":[],"pagination":[]}`, `{"items":[],"pagination":{}}`,
		`{"items":[],"pagination":{"total_count":-1,"max_page":0}}`,
		`{"items":[],"pagination":{"total_count":1.5,"max_page":0}}`,
		`{"items":[],"pagination":{"total_count":"1","max_page":0}}`,
		`{"items":[],"items":[1],"pagination":{"total_count":0,"max_page":0}}`,
		`{"detail":"Not Found"}`, whole + whole, whole + "x", "\ufeff" + whole, whole[:len(whole)-1],
	} {
		_, err := NewDecoder().Page([]byte(body))
		var shape *ShapeError
		if !errors.As(err, &shape) || strings.Contains(err.Error(), "\n") {
			t.Errorf("page %.40q: %v, want a ShapeError", body, err)
		}
	}
	for i := range len(whole) {
		if _, err := NewDecoder().Page([]byte(whole[:i])); err == nil {
			t.Fatalf("the body cut at %d is taken for whole", i)
		}
	}
	item := sampleItem().String()
	for _, body := range []string{"", "[]", "{}", "null", item + item, item[:len(item)-1], `{"detail":"Not Found"}`, whole} {
		m, rejected, err := DecodeCustomerMeter([]byte(body))
		var shape *ShapeError
		if !errors.As(err, &shape) || m != nil || rejected != nil {
			t.Errorf("DecodeCustomerMeter(%.40q): %v, %v, %v", body, m, rejected, err)
		}
	}
}

func TestOuterDefectsDoNotCostThePage(t *testing.T) {
	t.Parallel()
	body := strings.TrimSuffix(pageOf(sampleItem().String()), "}") + `,"note":"` + "\xff" + `","note":1}`
	if page := decodePage(t, body); len(page.CustomerMeters) != 1 {
		t.Errorf("page %+v", page)
	}
}

func TestDecodeCustomerMeterAgreesWithThePage(t *testing.T) {
	t.Parallel()
	want := decodeOne(t, sampleItem())
	got, rejected, err := DecodeCustomerMeter([]byte(" " + sampleItem().String() + "\n"))
	if err != nil || rejected != nil {
		t.Fatal(err, rejected)
	}
	if diff := cmp.Diff(&want, got); diff != "" {
		t.Error(diff)
	}
}
