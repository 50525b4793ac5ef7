package polar

import (
	"bytes"
	"encoding/json"
	"testing"
)

func FuzzDecodePage(f *testing.F) {
	for _, c := range customerVariants() {
		f.Add([]byte(pageOf(sampleItem().with("customer", c.String()).String())))
	}
	for _, m := range meterVariants() {
		f.Add([]byte(pageOf(sampleItem().with("meter", m.String()).String(), `null`)))
	}
	f.Add([]byte(pageOf(sampleItem().and("id", `"\u0000"`).String(), "{\"a\":\"\xff\"}", `{"\ud800":1e400000}`)))
	f.Fuzz(func(t *testing.T, body []byte) {
		before := bytes.Clone(body)
		page, err := NewDecoder().Page(body)
		if !bytes.Equal(before, body) {
			t.Fatal("the body was changed")
		}
		if err != nil {
			return
		}
		checkPage(t, body, page)
		for i := range page.CustomerMeters {
			checkStorable(t, &page.CustomerMeters[i])
		}
		for _, r := range page.Rejected {
			if m, _, _ := DecodeCustomerMeter(r.Raw); m != nil {
				t.Errorf("rejected (%s), yet taken alone: %q", r.Reason, r.Raw)
			}
		}
	})
}

// checkPage compares the number and the place of the items with what the
// standard library, which is lenient, finds.
func checkPage(t *testing.T, body []byte, page *Page) {
	t.Helper()
	var plain struct {
		Items []json.RawMessage `json:"items"`
	}
	if err := json.Unmarshal(body, &plain); err != nil {
		t.Fatalf("encoding/json refuses what was taken: %v", err)
	}
	if page.Size() != len(plain.Items) {
		t.Fatalf("%d items became %d", len(plain.Items), page.Size())
	}
	place := -1
	for _, r := range page.Rejected {
		if r.Index <= place || r.Index >= page.Size() || !bytes.Equal(r.Raw, plain.Items[r.Index]) {
			t.Errorf("rejected row %d is not the item at its place", r.Index)
		}
		if r.Reason == "" || bytes.ContainsAny([]byte(r.Reason), "\n\x00") {
			t.Errorf("reason %q", r.Reason)
		}
		place = r.Index
	}
	keys := 0
	for range page.Keys() {
		keys++
	}
	if keys < len(page.CustomerMeters) {
		t.Errorf("%d keys of %d usable rows", keys, len(page.CustomerMeters))
	}
}
