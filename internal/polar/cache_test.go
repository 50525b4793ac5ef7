package polar

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

// drawNested draws a customer or a meter that repeats, differs a little, or is
// broken.
func drawNested(t *rapid.T, name string, sound object) string {
	switch rapid.IntRange(0, 11).Draw(t, name) {
	case 0:
		return sound.with("name", quoted("Otto")).String()
	case 1:
		return sound.without("created_at").String()
	case 2:
		return sound.and("note", `"\u0000"`).String()
	case 3:
		return sound.and("size", "1e400000").String()
	case 4:
		return sound.and("note", quoted("\xff")).String()
	case 5:
		return sound.and("name", quoted("twice")).String()
	case 6:
		return "1"
	}
	return sound.String()
}

// TestOneBrokenItemChangesNoOther compares a page that is read as a whole, if
// nothing in it is broken, by a decoder that remembers earlier pages, with its
// items read one by one.
func TestOneBrokenItemChangesNoOther(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		d := NewDecoder()
		for range rapid.IntRange(1, 3).Draw(t, "pages") {
			var items []string
			for i := range rapid.IntRange(0, 4).Draw(t, "items") {
				item := sampleItem().with("id", quoted(fmt.Sprintf("b4a33ab9-2b3c-4b39-9d4b-%012x", i))).
					with("customer", drawNested(t, "customer", individual())).
					with("meter", drawNested(t, "meter", sampleMeter()))
				switch rapid.IntRange(0, 15).Draw(t, "item") {
				case 0:
					item = item.and("customer", individual().String())
				case 1:
					item = item.without("customer")
				case 2:
					item = item.and("new", `{"a":1}`)
				case 3:
					item = item.and("new", `1`).and("new", `2`)
				}
				items = append(items, item.String())
			}
			got, err := d.Page([]byte(pageOf(items...)))
			if err != nil {
				t.Fatal(err)
			}
			want := &Page{TotalCount: len(items), MaxPage: 1}
			for i, item := range items {
				m, nuls, err := NewDecoder().item([]byte(item))
				if err != nil {
					want.Rejected = append(want.Rejected, reject(i, []byte(item), err))
					continue
				}
				want.CustomerMeters = append(want.CustomerMeters, *m)
				want.NULsReplaced += nuls
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Fatalf("(-item by item +page)\n%s\n%s", diff, strings.Join(items, "\n"))
			}
		}
	})
}

func TestDecoderRemembersABoundedNumberOfObjects(t *testing.T) {
	t.Parallel()
	d := NewDecoder()
	for n := range 20 {
		var items []string
		for i := range MaxPageSize {
			id := quoted(fmt.Sprintf("0a3c1f7e-5d2b-4c1a-8e4f-%012x", n*MaxPageSize+i))
			items = append(items, sampleItem().with("customer_id", id).with("customer", individual().with("id", id).String()).String())
		}
		decodeOnly(t, d, pageOf(items...))
	}
	if n := len(d.customers.byHash); n > cacheSize {
		t.Errorf("%d customers remembered, want at most %d", n, cacheSize)
	}
	first := decodeOnly(t, d, pageOf(sampleItem().String())).CustomerMeters[0].Customer
	if again := decodeOnly(t, d, pageOf(sampleItem().String())).CustomerMeters[0].Customer; again != first {
		t.Error("a customer that was just met was not remembered")
	}
}

// decodeOnly decodes a page whose items are all usable.
func decodeOnly(t *testing.T, d *Decoder, body string) *Page {
	t.Helper()
	page, err := d.Page([]byte(body))
	if err != nil || len(page.Rejected) > 0 {
		t.Fatal(err, page)
	}
	return page
}
