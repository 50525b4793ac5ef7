package mirror

import (
	"time"

	"polarmirror/internal/polar"
	"polarmirror/internal/store"
)

// A block gathers accepted pages until they are saved together.
type block struct {
	rows     []*polar.CustomerMeter
	rejected []store.RejectedRow
	stretch  store.Stretch
	proven   bool // the stretch is set
	pages    int64
	oldest   time.Time // when the oldest request was begun
}

func (b *block) empty() bool { return b.pages == 0 }

// full reports whether b, of at most rows rows, is to be saved.
func (b *block) full(rows int) bool {
	return len(b.rows) >= rows || (b.pages > 0 && time.Since(b.oldest) > blockAge)
}

// add takes in a page that moved the proof from before to after.
func (b *block) add(page fetched, before, after *proof) {
	b.extend(page, before, after)
	if b.pages == 0 || page.Began.Before(b.oldest) {
		b.oldest = page.Began
	}
	b.pages++
	for i := range page.Page.CustomerMeters {
		b.rows = append(b.rows, &page.Page.CustomerMeters[i])
	}
	for _, r := range page.Page.Rejected {
		b.rejected = append(b.rejected, store.RejectedRow{RejectedRow: r, Offset: page.offset})
	}
}

// extend makes the stretch of the block reach down to what the page proves. A
// page above low, met while searching for it, proves nothing new.
func (b *block) extend(page fetched, before, after *proof) {
	if before.known && !after.done && after.low.Compare(before.low) >= 0 {
		return
	}
	if !b.proven {
		// The stretch begins with that of the first page. A short page speaks of
		// everything above it too; what lies above low has been judged by the
		// blocks before.
		_, last, _, ok := page.Page.Edges()
		short := page.Page.Size() < page.limit
		switch {
		case short && !before.known:
			b.stretch.ToEnd = true
		case short && (!ok || last.Compare(before.low) < 0):
			b.stretch.High = before.low
		default:
			b.stretch.High = last
		}
		b.proven = true
	}
	b.stretch.Low = after.low
	b.stretch.FromStart = after.done
	b.stretch.LowestOffset = page.offset
}

// take empties the block and returns what it held, ready to be saved.
func (b *block) take() *store.Block {
	full := &store.Block{
		CustomerMeters: b.rows,
		Rejected:       b.rejected,
		Began:          b.oldest,
		Counts:         store.Counts{Pages: b.pages},
	}
	if b.proven {
		stretch := b.stretch
		full.Stretch = &stretch
	}
	*b = block{}
	return full
}
