package polar

import (
	"fmt"
	"iter"
)

// Keys yields the place within the page and the key of every item that has one,
// rejected ones included, in the order of the answer.
func (p *Page) Keys() iter.Seq2[int, Key] {
	return func(yield func(int, Key) bool) {
		usable, rejected := p.CustomerMeters, p.Rejected
		for i := range p.Size() {
			var key Key
			known := true
			if len(rejected) > 0 && rejected[0].Index == i {
				key, known, rejected = rejected[0].Key, rejected[0].HasKey, rejected[1:]
			} else {
				key, usable = usable[0].Key(), usable[1:]
			}
			if known && !yield(i, key) {
				return
			}
		}
	}
}

// An Edge is an item at one end of a page.
type Edge struct {
	Key   Key
	Index int // place within the page
}

// Edges returns the first and the last item of the page that have a key; ok is
// false if none has. Items without a key at an edge make the stretch between the
// two smaller, never larger.
func (p *Page) Edges() (first, last Edge, ok bool) {
	for i, key := range p.Keys() {
		last = Edge{key, i}
		if !ok {
			first, ok = last, true
		}
	}
	return first, last, ok
}

// CheckOrder returns an [*OrderError] unless the keys of the page ascend
// strictly, or descend strictly if descending is set.
func (p *Page) CheckOrder(descending bool) error {
	want := -1
	if descending {
		want = 1
	}
	var before Key
	place := -1
	for i, key := range p.Keys() {
		if place >= 0 && before.Compare(key) != want {
			return &OrderError{Index: i, Before: before, Key: key}
		}
		before, place = key, i
	}
	return nil
}

// An OrderError is a page that is not in the order asked for.
type OrderError struct {
	Index  int // place within the page of the first item that is out of order
	Before Key // of the item before it
	Key    Key // of the item, not above Before
}

// Error names both keys in one line.
func (e *OrderError) Error() string {
	return fmt.Sprintf("page out of order: item %d (%s) does not come after (%s)", e.Index, e.Key, e.Before)
}

// String returns the three parts in their order, for messages.
func (k Key) String() string {
	return fmt.Sprintf("created_at %s, customer_id %s, meter_id %s",
		k.CreatedAt.UTC().Format("2006-01-02T15:04:05.999999Z07:00"), k.CustomerID, k.MeterID)
}
