package mirror

import (
	"fmt"

	"polarmirror/internal/polar"
	"polarmirror/internal/store"
)

// A span is a page of the list: the rows from offset to offset+limit, counted
// from the oldest row or, newest first, from the newest. offset is a multiple of
// limit, since that is all that Polar can be asked for.
type span struct {
	offset, limit int
	newestFirst   bool
}

// page is the number of the page, counted from 1.
func (s span) page() int { return s.offset/s.limit + 1 }

func (s span) end() int { return s.offset + s.limit }

// order is the order in which the span's page is asked for.
func (s span) order() []string {
	if s.newestFirst {
		return []string{"-created_at", "-customer_id", "-meter_id"}
	}
	return []string{"created_at", "customer_id", "meter_id"}
}

// checkOrder returns an error, which wraps a [*polar.OrderError], unless the page is
// in the order asked for, on which everything rests.
func (s span) checkOrder(page *polar.Page) error {
	if err := page.CheckOrder(s.newestFirst); err != nil {
		return fmt.Errorf("page at offset %d is not in the order asked for (%w): nothing can be proven about such a list; if it stays so, report it to syncd's maintainers", s.offset, err)
	}
	return nil
}

// best returns, of all pages of at most size rows that hold the row at index, the one
// whose score is highest. Of several it is the longest: the more two pages overlap, the
// more the list may shift between them.
func best(index, size int, score func(span) int) span {
	best := span{offset: index, limit: 1}
	for limit := 2; limit <= size; limit++ {
		s := span{offset: index / limit * limit, limit: limit}
		if score(s) >= score(best) {
			best = s
		}
	}
	return best
}

// cover returns the page that holds the row at index and reaches down farthest.
func cover(index, size int) span { return best(index, size, func(s span) int { return -s.offset }) }

// coverUp returns the page that holds the row at index and reaches up farthest.
func coverUp(index, size int) span { return best(index, size, span.end) }

// A proof gathers what the pages of a walk prove.
//
// The items of one page come from one SQL statement, so at that moment the list
// held, between the lowest and the highest key of the page, exactly those rows; a
// page at an end of the list, which is one at offset 0 or shorter than its limit,
// proves everything beyond it too. If the highest key of a page reaches the
// lowest key proven so far, the two stretches leave no gap: a row that existed
// throughout lies in one of them, whatever happened between the two requests and
// in whichever order they were made. So when a page at the old end is accepted,
// every row that existed throughout has been on one of the pages.
//
// Only the keys matter, not how a page was asked for: the newer half of the list
// is read newest first and the older half oldest first, so that no offset, which
// Polar reads past row by row, is larger than half of the list.
//
// Rows that come or go between two requests shift the others and can open a gap.
// Then the page is not accepted. Newest first, pages are asked for from farther
// back towards the newest row, where no gap is possible. Oldest first, low is
// searched for above the page: at offsets twice as far back each time until a
// page holds keys that are not below low, and from there by halving.
type proof struct {
	size   int       // rows of a page at most
	total  int       // rows of the list, by Polar's last count: a hint where its middle is
	low    polar.Key // lowest key proven; valid if known
	known  bool      // false before the first page is accepted: nothing is proven yet
	newest bool      // pages are asked for newest first
	offset int       // where low, or a key above it, was last seen, counted from the end that pages are asked for from
	back   int       // how much farther back than offset to look; 0 unless the last page left a gap
	under  int       // oldest first: low lies at no lower offset, while it is searched for; 0 if not searching
	misses int       // pages that proved nothing; see maxMisses
	alone  bool      // pages are asked for one at a time, since few are wanted
	to     polar.Key // below it nothing is wanted; zero: all is
	done   bool      // the list is proven from end to end
}

// newProof begins with the newest row.
func newProof(size int) proof { return proof{size: size, newest: true} }

// resumedProof goes on below low, which was last seen at offset, counted from the
// oldest row, in a list of total rows.
func resumedProof(size, total, offset int, low polar.Key) proof {
	p := proof{size: size, total: total, low: low, known: true, offset: offset}
	if offset > total/2 {
		p.newest, p.offset = true, max(total-1-offset, 0)
	}
	return p
}

// maxMisses bounds the pages of one walk that prove nothing. A gap costs a
// handful; a list that shifts faster than it can be read costs more and more,
// and ends the walk as not exact.
const maxMisses = 200

// finished reports whether all that is wanted is proven.
func (p *proof) finished() bool { return p.done || p.known && p.low.Compare(p.to) <= 0 }

// remaining is how many rows lie below low, as far as is known.
func (p *proof) remaining() int {
	switch {
	case p.done:
		return 0
	case p.newest:
		return max(p.total-1-p.offset, 0)
	}
	return p.offset
}

// searching reports whether the next page is a probe whose successors can't be
// planned yet.
func (p *proof) searching() bool { return p.alone || !p.known || p.back > 0 || p.under > 0 }

// next is the page to ask for now.
func (p *proof) next() span {
	switch {
	case p.newest && !p.known:
		return span{limit: p.size, newestFirst: true}
	case p.newest:
		s := coverUp(max(p.offset-p.back, 0), p.size)
		s.newestFirst = true
		return s
	case p.back > 0:
		return cover(p.offset+p.back, p.size)
	case p.offset-p.under > p.size && p.under > 0:
		return cover((p.under+p.offset)/2, p.size)
	}
	return cover(p.offset, p.size)
}

// after is the page to ask for after s, if s turns out as planned; false if what
// comes after it can't be planned.
func (p *proof) after(s span) (span, bool) {
	switch {
	case !s.newestFirst:
		return cover(s.offset, p.size), s.offset > 0
	case s.end() > p.total/2:
		return span{}, false // the other half is read from the other end
	}
	next := coverUp(s.end()-1, p.size)
	next.newestFirst = true
	return next, true
}

// asPlanned reports whether the pages planned after s still fit.
func (p *proof) asPlanned(s span) bool {
	if p.finished() || p.searching() || p.newest != s.newestFirst {
		return false
	}
	if p.newest {
		return p.offset == s.end()-1
	}
	return p.offset == s.offset
}

// take judges the page that Polar sent for s, and returns the region that it proves
// and the pages before it did not; nil if there is none.
//
// The error is that of checkOrder, or [ErrNotProven] if too many pages proved nothing.
func (p *proof) take(s span, page *polar.Page) (*store.Region, error) {
	if err := s.checkOrder(page); err != nil {
		return nil, err
	}
	p.total = page.TotalCount
	lowest, highest, ok := page.Edges()
	short := page.Size() < s.limit
	atTop := short // nothing is newer than the page
	if s.newestFirst {
		lowest, highest, atTop = highest, lowest, s.offset == 0
	}
	region := &store.Region{High: p.low, ToEnd: !p.known, LowestOffset: s.offset}
	switch {
	case !ok && s.offset == 0 && short && p.known:
		// Rows were listed while this walk ran (or before it was resumed), and
		// now there are none: an outage or another token says the same as an
		// organization that lost everything. A walk begun anew can tell.
		return nil, fmt.Errorf("%w: the list became empty while it was read", ErrNotProven)
	case !ok && s.offset == 0 && short:
		p.done, region.FromStart = true, true
		return region, nil
	case !ok && page.Size() == p.size: // no page is long enough to show both sides of them
		return nil, fmt.Errorf("%w: none of the %d rows at offset %d has a usable place in the list (%s)",
			ErrNotProven, p.size, s.offset, page.Rejected[0].Reason)
	case !ok:
		return nil, p.noKeys(s)
	case atTop || (p.known && highest.Key.Compare(p.low) >= 0):
		err := p.accept(s, lowest, short)
		if !p.done && !region.ToEnd && p.low == region.High {
			return nil, err // a page above low, met while searching for it
		}
		region.Low, region.FromStart = p.low, p.done
		return region, err
	}
	return nil, p.leftGap(s)
}

// noKeys steps back after a page without a key: the list has become shorter.
func (p *proof) noKeys(s span) error {
	if p.newest {
		p.back = max(2*p.back, p.size)
		return p.countMiss()
	}
	// Where the list ends now Polar says itself, and should that be wrong, the next page
	// is at least lower.
	p.offset, p.back = min(s.offset, max(p.total, 0)), 0
	if p.offset < p.under {
		p.under = 0
	}
	return p.countMiss()
}

// accept moves low down to the lowest key of the page. If that is not below low,
// the page was planned too high, and low lies below it.
func (p *proof) accept(s span, lowest polar.Edge, short bool) error {
	progress := !p.known || lowest.Key.Compare(p.low) < 0
	at := s.offset + lowest.Index
	nearer := at < p.offset
	if s.newestFirst {
		nearer = at > p.offset-p.back
	}
	if progress {
		p.low, p.under = lowest.Key, 0
	}
	p.known, p.offset, p.back = true, at, 0
	if s.newestFirst {
		p.done = short
		if p.newest && at+1 >= p.total/2 {
			p.newest, p.offset = false, max(p.total-1-at, 0)
		}
	} else {
		p.done = s.offset == 0
	}
	if !progress && !nearer {
		return p.countMiss()
	}
	return nil
}

// leftGap looks farther back after a page all of whose keys are below low.
func (p *proof) leftGap(s span) error {
	if s.newestFirst {
		p.back = max(2*p.back, p.size)
		return p.countMiss()
	}
	if s.end() >= p.offset {
		p.offset = s.end()
		p.back = max(2*p.back, p.size)
	}
	p.under = max(p.under, s.end()) // every key of the page is below low
	return p.countMiss()
}

func (p *proof) countMiss() error {
	p.misses++
	if p.misses > maxMisses {
		return fmt.Errorf("%w: %d pages left gaps or were empty", ErrNotProven, p.misses)
	}
	return nil
}
