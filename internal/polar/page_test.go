package polar

import (
	"errors"
	"strconv"
	"testing"
)

func TestOrderIsCheckedAcrossRejectedRows(t *testing.T) {
	t.Parallel()
	at := func(second int) object {
		return sampleItem().with("created_at", quoted("2026-01-01T00:00:"+strconv.Itoa(10+second)+"Z"))
	}
	broken := func(second int) object { return at(second).with("balance", "null") }
	keyless := sampleItem().without("created_at")
	second := func(k Key) int { return k.CreatedAt.Second() - 10 }
	for _, test := range []struct {
		name               string
		items              []object
		first, last, index int // index of the first key, -1 if none
		outOfOrder         int // index of the offending item, -1 if in order
	}{
		{"empty", nil, 0, 0, -1, -1},
		{"ascending", []object{at(1), at(2), at(3)}, 1, 3, 0, -1},
		{"rejected at the edges", []object{broken(1), at(2), broken(3)}, 1, 3, 0, -1},
		{"keyless at the edges", []object{keyless, at(2), at(3), keyless}, 2, 3, 1, -1},
		{"only keyless", []object{keyless}, 0, 0, -1, -1},
		{"equal", []object{at(1), at(1)}, 1, 1, 0, 1},
		{"descending", []object{at(2), at(1)}, 2, 1, 0, 1},
		{"rejected row below", []object{at(2), broken(1), at(3)}, 2, 3, 0, 1},
		{"below a rejected row", []object{at(1), broken(3), keyless, at(2)}, 1, 2, 0, 3},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			var items []string
			for _, item := range test.items {
				items = append(items, item.String())
			}
			page := decodePage(t, pageOf(items...))
			first, last, ok := page.Edges()
			if ok != (test.index >= 0) || ok && (second(first.Key) != test.first || second(last.Key) != test.last || first.Index != test.index) {
				t.Errorf("Edges = %v, %v, %v", first, last, ok)
			}
			got := -1
			var order *OrderError
			if errors.As(page.CheckOrder(false), &order) {
				got = order.Index
			}
			if got != test.outOfOrder {
				t.Errorf("out of order at %d, want %d", got, test.outOfOrder)
			}
		})
	}
}
