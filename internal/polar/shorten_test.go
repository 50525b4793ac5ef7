package polar

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

// pageWithoutCopies decodes body as it was sent.
func pageWithoutCopies(body []byte) (*Page, error) {
	parts, strict, err := splitPage(body)
	if err != nil {
		return nil, err
	}
	return NewDecoder().page(&shortened{whole: body, text: body}, parts, strict)
}

// drawNested draws a customer or a meter of which copies and near-copies are
// likely, now and then broken.
func drawNested(t *rapid.T, name string, sound object) string {
	switch rapid.IntRange(0, 11).Draw(t, name) {
	case 0:
		return sound.with("name", quoted("Otto")).String()
	case 1:
		return sound.without("created_at").String()
	case 2:
		return sound.and("note", `"\u0000"`).String()
	case 3:
		return strings.TrimSuffix(sound.String(), "}")
	case 4:
		return sound.and("size", "1e400000").String()
	case 5:
		return sound.and("meter", sampleMeter().String()).String()
	case 6:
		return sound.and("note", quoted("\xff")).String()
	case 7:
		return "1"
	}
	return sound.String()
}

// drawItem draws a customer meter whose nested objects stand where they belong,
// elsewhere, or are missing.
func drawItem(t *rapid.T, i int) string {
	item := sampleItem().with("id", quoted(fmt.Sprintf("b4a33ab9-2b3c-4b39-9d4b-%012x", i))).
		with("customer", drawNested(t, "customer", individual())).
		with("meter", drawNested(t, "meter", sampleMeter()))
	switch rapid.IntRange(0, 15).Draw(t, "item") {
	case 0:
		item = item.and("subscription", individual().with("customer", individual().String()).String())
	case 1:
		item = item.and("customer", individual().String())
	case 2:
		item = item.and(`a\"customer`, individual().String())
	case 3:
		item = item.with("customer", quoted(strings.ReplaceAll(`{"customer":`+individual().String(), `"`, `\"`)))
	case 4:
		item = item.and("other", "["+sampleMeter().String()+`,{"meter":`+sampleMeter().String()+"}]")
	case 5:
		return `"customer":` + individual().String()
	case 6:
		return `{"x":"customer":` + individual().String() + "}"
	case 7:
		item = item.without("customer")
	}
	return item.String()
}

// TestRepeatedObjectsChangeNothing compares a decoder that replaces copies, and
// remembers objects from page to page, with one that reads every byte.
func TestRepeatedObjectsChangeNothing(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		d := NewDecoder()
		for range rapid.IntRange(1, 3).Draw(t, "pages") {
			var items []string
			for i := range rapid.IntRange(0, 8).Draw(t, "items") {
				items = append(items, drawItem(t, i))
			}
			body := []byte(pageOf(items...))
			want, wantErr := pageWithoutCopies(body)
			got, err := d.Page(body)
			if fmt.Sprint(err) != fmt.Sprint(wantErr) {
				t.Fatalf("error %v, want %v\n%s", err, wantErr, body)
			}
			if diff := cmp.Diff(want, got, cmp.AllowUnexported(Decimal{})); diff != "" {
				t.Fatalf("(-every byte read +copies replaced)\n%s\n%s", diff, body)
			}
		}
	})
}

func TestDecoderRemembersABoundedNumberOfObjects(t *testing.T) {
	t.Parallel()
	d := NewDecoder()
	for n := range 40 {
		var items []string
		for i := range MaxPageSize {
			id := quoted(fmt.Sprintf("0a3c1f7e-5d2b-4c1a-8e4f-%012x", n*MaxPageSize+i))
			items = append(items, sampleItem().with("customer_id", id).with("customer", individual().with("id", id).String()).String())
		}
		if page, err := d.Page([]byte(pageOf(items...))); err != nil || len(page.CustomerMeters) != MaxPageSize {
			t.Fatal(err)
		}
	}
	if n := len(d.customers.young) + len(d.customers.old); n > 2*knownMost {
		t.Errorf("%d customers remembered, want at most %d", n, 2*knownMost)
	}
	before := len(d.customers.young)
	if page, err := d.Page([]byte(pageOf(sampleItem().String()))); err != nil || len(page.CustomerMeters) != 1 {
		t.Fatal(err)
	}
	if len(d.customers.young) == before {
		t.Error("a customer not met lately was not remembered")
	}
}
