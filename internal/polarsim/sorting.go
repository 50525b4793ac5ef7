package polarsim

import (
	"bytes"
	"cmp"
	"strings"
)

// A criterion is one value of the sorting parameter.
type criterion struct {
	property   string
	descending bool
}

// properties are the sortable properties, in the order of Polar's enum.
func properties() []string {
	return []string{"created_at", "modified_at", "customer_id", "customer_name", "meter_id",
		"meter_name", "consumed_units", "credited_units", "balance"}
}

// comparison turns criteria into one comparison, which is 0 for ties.
func comparison(criteria []criterion, nullsSmallest bool) func(a, b *row) int {
	steps := make([]func(a, b *row) int, len(criteria))
	for i, c := range criteria {
		step := ascending(c.property, nullsSmallest)
		if c.descending {
			up := step
			step = func(a, b *row) int { return up(b, a) }
		}
		steps[i] = step
	}
	return func(a, b *row) int {
		for _, step := range steps {
			if c := step(a, b); c != 0 {
				return c
			}
		}
		return 0
	}
}

// total breaks the ties of a comparison by the rows' age in this process.
func total(ties func(a, b *row) int) func(a, b *row) int {
	return func(a, b *row) int {
		if c := ties(a, b); c != 0 {
			return c
		}
		return cmp.Compare(a.seq, b.seq)
	}
}

// ascending compares by one property as Postgres does under the collation "C".
func ascending(property string, nullsSmallest bool) func(a, b *row) int {
	null := 1
	if nullsSmallest {
		null = -1
	}
	switch property {
	case "created_at":
		return func(a, b *row) int { return cmp.Compare(a.created, b.created) }
	case "modified_at":
		return func(a, b *row) int { return compareModified(a.modified, b.modified, null) }
	case "customer_id":
		return func(a, b *row) int { return bytes.Compare(a.customer.id[:], b.customer.id[:]) }
	case "meter_id":
		return func(a, b *row) int { return bytes.Compare(a.meter.id[:], b.meter.id[:]) }
	case "customer_name":
		return func(a, b *row) int { return compareNames(a.customer, b.customer, null) }
	case "meter_name":
		return func(a, b *row) int { return strings.Compare(a.meter.doc.Name, b.meter.doc.Name) }
	case "consumed_units":
		return func(a, b *row) int { return compareNumbers(a.units.Consumed, b.units.Consumed) }
	case "credited_units":
		return func(a, b *row) int { return compareNumbers(a.units.Credited, b.units.Credited) }
	default: // balance
		return func(a, b *row) int { return compareNumbers(a.units.Balance, b.units.Balance) }
	}
}

// compareModified puts null where the third argument says: 1 above, -1 below.
func compareModified(a, b int64, null int) int {
	switch {
	case a == b:
		return 0
	case a == never:
		return null
	case b == never:
		return -null
	}
	return cmp.Compare(a, b)
}

func compareNames(a, b *customer, null int) int {
	a.load()
	b.load()
	switch {
	case a.name == nil && b.name == nil:
		return 0
	case a.name == nil:
		return null
	case b.name == nil:
		return -null
	}
	return strings.Compare(*a.name, *b.name)
}
