package mirror

import (
	"context"
	"slices"
	"time"

	"github.com/google/uuid"

	"polarmirror/internal/polar"
	"polarmirror/internal/store"
)

// maxBlockAge is how long a block may gather: pages can be slow.
const maxBlockAge = 15 * time.Second

// A block gathers pages until they are saved together.
type block struct {
	store.Block // but for the counts and the cursor
	pages       int
	customers   map[uuid.UUID]bool
}

// full reports whether b, of at most rows rows, is to be saved. A customer takes several
// times as much memory as a row, so that there are at most half as many.
func (b *block) full(rows int) bool {
	return len(b.CustomerMeters) >= rows || 2*len(b.customers) >= rows || (b.pages > 0 && time.Since(b.RequestedAt) > maxBlockAge)
}

// add takes the rows of a page for which keep is true; nil keeps all.
func (b *block) add(page listedPage, keep func(*polar.CustomerMeter) bool) {
	if b.pages == 0 || page.Began.Before(b.RequestedAt) {
		b.RequestedAt = page.Began
	}
	b.pages++
	if b.customers == nil {
		b.customers = map[uuid.UUID]bool{}
	}
	for i := range page.Page.CustomerMeters {
		m := &page.Page.CustomerMeters[i]
		if keep == nil || keep(m) {
			b.CustomerMeters = append(b.CustomerMeters, m)
			b.customers[m.CustomerID] = true
		}
	}
	for _, r := range page.Page.Rejected {
		b.Rejected = append(b.Rejected, store.RejectedRow{RejectedRow: r, Offset: page.offset})
	}
}

// fits reports whether a page can be added to the block: its region continues that of
// the block, or both show all rows of some customers.
func (b *block) fits(page listedPage) bool {
	whole := func(r *store.Region) bool { return r.FromStart && r.ToEnd }
	return b.Region == nil || !page.region.ToEnd || whole(b.Region) && whole(page.region)
}

// addRegion adds a page and the region that it shows.
func (b *block) addRegion(page listedPage) {
	b.add(page, nil)
	switch {
	case b.Region == nil:
		b.Region = page.region
	case page.region.ToEnd:
		b.Region.Customers = slices.Concat(b.Region.Customers, page.region.Customers)
	default:
		b.Region.Low, b.Region.FromStart, b.Region.LowestOffset = page.region.Low, page.region.FromStart, page.region.LowestOffset
	}
}

// take empties the block and returns what it held.
func (b *block) take() *store.Block {
	taken := b.Block
	*b = block{}
	return &taken
}

// A saver gathers the pages of a run in blocks, and writes a block while the next
// is gathered. Blocks are saved in order, and none after one that could not be
// saved: a cursor below rows that are missing would lose them.
type saver struct {
	run    *Run
	block  block
	cursor func(*store.Block) *store.Cursor // that moves with the block gathered by now; nil if the run has none
	onSave func(context.Context, *store.Block, store.Saved) error

	writing *store.Block  // being written; nil if none is
	done    chan struct{} // closed when what follows is set
	saved   store.Saved
	err     error // a block could not be saved, and no other is
}

// startSave begins to write the block, once the one before it is written.
func (s *saver) startSave(ctx context.Context) error {
	if err := s.wait(ctx); err != nil || s.block.pages == 0 {
		return err
	}
	b := s.block.take()
	if s.cursor != nil {
		b.Cursor = s.cursor(b)
	}
	b.Counts = s.run.counts.unrecorded()
	s.writing, s.done = b, make(chan struct{})
	go func() {
		defer close(s.done)
		s.saved, s.err = s.run.write(ctx, b)
	}()
	return nil
}

// wait waits for the block that is being written. Until then nobody else may use
// the session. Rows that were listed with an older state than the mirror has are
// asked for again.
func (s *saver) wait(ctx context.Context) error {
	b := s.writing
	if b == nil {
		return s.err
	}
	<-s.done
	s.writing = nil
	if s.err != nil {
		return s.err
	}
	s.run.saved(b, s.saved)
	if s.onSave != nil {
		s.err = s.onSave(ctx, b, s.saved)
	}
	if s.err == nil {
		s.err = s.run.askAgain(ctx, s.saved.Older)
	}
	return s.err
}

// flush writes the block in hand, and has it saved when it returns.
func (s *saver) flush(ctx context.Context) error {
	if err := s.startSave(ctx); err != nil {
		return err
	}
	return s.wait(ctx)
}
