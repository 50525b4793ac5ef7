package mirror

import (
	"context"
	"errors"
)

// borderProbes bounds the search; forty doublings and halvings find any border.
const borderProbes = 80

var errNoBorder = errors.New("the border between older and newer rows cannot be found: the list keeps shifting")

// around returns a page that has index well inside, so that rows on both sides
// of it show where the border is, more of them above.
func around(index, size int) span {
	if index < size/2 {
		return span{limit: size}
	}
	return best(index, size, func(s span) int { return min(3*(index-s.offset), s.end()-index) })
}

// findBorder searches a list whose rows are first of one kind and then of another. It
// returns the offset at which the others begin, and a page that holds it or the end of
// the list. before counts the rows of the first kind at the beginning of a page.
//
// The search goes from guess outward in doubling steps, and halves once it has been on
// both sides. Should the list shift meanwhile, it goes outward again.
func findBorder(ctx context.Context, guess, size int, list func(context.Context, span) (listedPage, error), before func(listedPage) int) (listedPage, int, error) {
	low, high := 0, -1 // the border is above low and not above high (-1: unknown)
	step := size
	for range borderProbes {
		page, err := list(ctx, around(guess, size))
		if err != nil {
			return listedPage{}, 0, err
		}
		n, rows := before(page), page.Page.Size()
		outward := 0
		switch {
		case n > 0 && (n < rows || rows < page.limit), n == 0 && page.offset == 0:
			return page, page.offset + n, nil
		case n > 0:
			low = page.end()
			if high <= low {
				high = -1
			}
			outward = low + step
		default:
			high = page.offset
			if low > high {
				low = 0
			}
			outward = max(high-step, 0)
		}
		if high >= 0 && low > 0 {
			guess = (low + high) / 2
		} else {
			guess, step = outward, 2*step
		}
	}
	return listedPage{}, 0, errNoBorder
}
