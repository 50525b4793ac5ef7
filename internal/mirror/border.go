package mirror

import (
	"context"
	"errors"
)

// Rows that never changed have no modified_at, and Polar's Postgres puts them
// first under descending order: there can be very many before the first row
// that changed. Where they end, the border, is guessed from the last tick (or
// the mirror's own count) and felt for from there; should they come last or not
// at all, the same search ends at page 1.

// borderProbes bounds the search; forty doublings and halvings find any border.
const borderProbes = 80

var errNoBorder = errors.New("the rows that changed cannot be told from those that did not: the list keeps shifting")

// around returns a page that has index well inside, so that rows on both sides
// of it show where the border is, more of them above.
func around(index, size int) span {
	best, score := span{limit: size}, -1
	if index < size/2 {
		return best
	}
	for limit := size; limit >= max(size/2, 1); limit-- {
		below := index % limit
		if s := min(3*below, limit-below); s > score {
			best, score = span{offset: index - below, limit: limit}, s
		}
	}
	return best
}

// A side says on which side of the border a page lies.
type side int

const (
	onBorder side = iota // it holds the border, or nothing lies beyond
	allNull              // the border is above it
	allDated             // the border is below it
)

// sideOf returns on which side a page lies and, if it holds the border, at
// which offset the rows that changed begin.
func sideOf(page listedPage) (side, int) {
	rows := page.Page.CustomerMeters
	short := page.Page.Size() < page.limit
	if len(rows) == 0 {
		if page.offset == 0 {
			return onBorder, 0
		}
		return allDated, 0 // past the end of the list
	}
	for i := range rows {
		if rows[i].ModifiedAt.IsZero() {
			continue
		}
		if i > 0 || page.offset == 0 {
			return onBorder, page.offset + i
		}
		return allDated, 0
	}
	if short {
		return onBorder, page.offset + len(rows)
	}
	return allNull, 0
}

// findBorder returns the page with which the rows that changed begin.
func (t *tick) findBorder(ctx context.Context, guess int) (listedPage, int, error) {
	low, high := 0, -1 // the border is known to be above low and not above high (-1: unknown)
	step := t.pageSize()
	for range borderProbes {
		page, err := t.list(ctx, around(guess, t.pageSize()), changedOrder())
		if err != nil {
			return listedPage{}, -1, err
		}
		where, border := sideOf(page)
		switch where {
		case onBorder:
			return t.confirmBorder(ctx, page, border)
		case allNull:
			low = page.end()
			if high >= 0 && high <= low {
				high = -1 // the list has shifted
			}
		case allDated:
			high = page.offset
			if low > high {
				low = 0
			}
		}
		guess, step = nextGuess(low, high, step, where)
	}
	return listedPage{}, -1, errNoBorder
}

// nextGuess halves a bracket, and otherwise goes outward by doubling steps.
func nextGuess(low, high, step int, where side) (guess, next int) {
	switch {
	case high >= 0 && low > 0:
		return (low + high) / 2, step
	case where == allNull:
		return low + step, 2 * step
	default:
		return max(high-step, 0), 2 * step
	}
}

// confirmBorder looks at page 1 when a page suggests that nothing has changed
// at all, for that is also what the end of the list looks like should rows
// without modified_at come last.
func (t *tick) confirmBorder(ctx context.Context, page listedPage, border int) (listedPage, int, error) {
	rows := page.Page.CustomerMeters
	atEnd := len(rows) > 0 && rows[len(rows)-1].ModifiedAt.IsZero()
	if !atEnd || page.offset == 0 {
		return page, border, nil
	}
	first, err := t.list(ctx, span{limit: t.pageSize()}, changedOrder())
	if err != nil {
		return listedPage{}, -1, err
	}
	if dated := first.Page.CustomerMeters; len(dated) > 0 && !dated[0].ModifiedAt.IsZero() {
		return first, 0, nil
	}
	return page, border, nil
}
