package mirror

import (
	"fmt"

	"polarmirror/internal/polar"
)

// A span is a page of the list: the rows from offset to offset+limit.
// offset is a multiple of limit, since that is all that Polar can be asked for.
type span struct {
	offset, limit int
}

// page is the number of the page, counted from 1.
func (s span) page() int { return s.offset/s.limit + 1 }

func (s span) end() int { return s.offset + s.limit }

// cover returns, of all pages of at most size rows that hold the row at index,
// the one that reaches down farthest. Of several that start at the same offset it is the longest:
// the more two pages overlap, the more the list may shift between them.
func cover(index, size int) span {
	best := span{offset: index, limit: 1}
	for limit := 1; limit <= size; limit++ {
		offset := index / limit * limit
		if offset <= best.offset {
			best = span{offset: offset, limit: limit}
		}
	}
	return best
}

// A proof gathers what the pages of a walk prove.
//
// The items of one page come from one SQL statement, so at that moment the list
// held, between the first and the last key of the page, exactly those rows; a
// page at offset 0 proves everything below it too, and a page shorter than its
// limit everything above. If the last key of a page reaches the lowest key
// proven so far, the two stretches leave no gap: a row that existed throughout
// lies in one of them, whatever happened between the two requests and in
// whichever order they were made. So when a page at offset 0 is accepted, every
// row that existed throughout has been on one of the pages.
//
// Rows that appear in the middle (a meter is un-archived) push the others to
// higher offsets and can open a gap. Then the page is not accepted and low is
// searched for above it: at offsets twice as far back each time until a page
// holds keys that are not below low, and from there by halving.
type proof struct {
	size   int       // rows of a page at most
	low    polar.Key // lowest key proven; valid if known
	known  bool      // false before the first page is accepted: nothing is proven yet
	offset int       // where low, or a key above it, was last seen; at first a guess where the list ends
	back   int       // how much higher than offset to look; 0 unless offset is too low
	under  int       // low lies at no lower offset, while it is searched for; 0 if not searching
	misses int       // pages that proved nothing; see maxMisses
	done   bool      // the list is proven from end to end
}

// maxMisses bounds the pages of one walk that prove nothing. A gap costs a
// handful; a list that shifts faster than it can be read costs more and more,
// and ends the walk as not exact.
const maxMisses = 200

// A verdict says what a page was worth.
type verdict int

const (
	accepted verdict = iota // its rows are proven
	passed                  // an empty page above offset 0, which proves nothing
	gap                     // it does not reach low
)

// searching reports whether the next page is a probe whose successors can't be
// planned yet.
func (p *proof) searching() bool { return p.back > 0 || p.under > 0 }

// next is the page to ask for now.
func (p *proof) next() span {
	switch {
	case p.back > 0:
		return cover(p.offset+p.back, p.size)
	case p.offset-p.under > p.size && p.under > 0:
		return cover((p.under+p.offset)/2, p.size)
	}
	return cover(p.offset, p.size)
}

// take judges the page that Polar sent for s.
//
// The error is an [OrderError] if the rows are not in the order asked for, on
// which everything rests, or [ErrNotProven] if too many pages proved nothing.
func (p *proof) take(s span, page *polar.Page) (verdict, error) {
	if err := page.CheckOrder(); err != nil {
		return gap, &OrderError{Offset: s.offset, Err: err}
	}
	first, last, index, ok := page.Edges()
	short := page.Size() < s.limit
	switch {
	case !ok && s.offset == 0 && short && p.known:
		// Rows were listed while this walk ran (or before it was resumed), and
		// now there are none: an outage or another token says the same as an
		// organization that lost everything. A walk begun anew can tell.
		return gap, fmt.Errorf("%w: the list became empty while it was read", ErrNotProven)
	case !ok && s.offset == 0 && short:
		p.done = true
		return accepted, nil
	case !ok:
		// The list has become shorter; where it ends now Polar says itself, and
		// should that be wrong, the next page is at least lower.
		p.offset, p.back = min(s.offset, max(page.TotalCount, 0)), 0
		if p.offset < p.under {
			p.under = 0
		}
		return passed, p.miss()
	case short || (p.known && last.Compare(p.low) >= 0):
		return accepted, p.accept(s, first, index)
	}
	if s.end() >= p.offset {
		p.offset = s.end()
		p.back = max(2*p.back, p.size)
	}
	p.under = max(p.under, s.end()) // every key of the page is below low
	return gap, p.miss()
}

// accept moves low down to first. If first is not below low, the page was
// planned too high, and low lies below it.
func (p *proof) accept(s span, first polar.Key, index int) error {
	progress := !p.known || first.Compare(p.low) < 0
	lower := s.offset+index < p.offset
	if progress {
		p.low, p.under = first, 0
	}
	p.known = true
	p.offset = s.offset + index
	p.back = 0
	p.done = s.offset == 0
	if !progress && !lower {
		return p.miss()
	}
	return nil
}

func (p *proof) miss() error {
	p.misses++
	if p.misses > maxMisses {
		return fmt.Errorf("%w: %d pages left gaps or were empty", ErrNotProven, p.misses)
	}
	return nil
}
