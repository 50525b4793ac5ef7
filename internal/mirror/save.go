package mirror

import (
	"context"
	"time"

	"polarmirror/internal/polar"
	"polarmirror/internal/store"
)

// maxBlockAge is how long a block may gather: pages can be slow.
const maxBlockAge = 15 * time.Second

// A block gathers pages until they are saved together.
type block struct {
	rows     []*polar.CustomerMeter
	rejected []store.RejectedRow
	region   *store.Region
	pages    int
	oldest   time.Time // when the oldest request was begun
}

func (b *block) empty() bool { return b.pages == 0 }

// full reports whether b, of at most rows rows, is to be saved.
func (b *block) full(rows int) bool {
	return len(b.rows) >= rows || (b.pages > 0 && time.Since(b.oldest) > maxBlockAge)
}

// add takes the rows of a page for which keep is true; nil keeps all.
func (b *block) add(page listedPage, keep func(*polar.CustomerMeter) bool) {
	if b.pages == 0 || page.Began.Before(b.oldest) {
		b.oldest = page.Began
	}
	b.pages++
	for i := range page.Page.CustomerMeters {
		m := &page.Page.CustomerMeters[i]
		if keep == nil || keep(m) {
			b.rows = append(b.rows, m)
		}
	}
	for _, r := range page.Page.Rejected {
		b.rejected = append(b.rejected, store.RejectedRow{RejectedRow: r, Offset: page.offset})
	}
}

// addProven adds a page that moved the proof, and makes the block's region reach
// down to what it proves. A page above low, met while searching for it, proves
// nothing new.
func (b *block) addProven(page provenPage) {
	b.add(page.listedPage, nil)
	before, after := &page.before, &page.after
	if before.known && !after.done && after.low.Compare(before.low) >= 0 {
		return
	}
	if b.region == nil {
		// The region begins with that of the first page. What lies above low has
		// been compared with the blocks before.
		b.region = &store.Region{Customers: page.filter.CustomerIDs, Meters: page.filter.MeterIDs}
		_, highest, ok := ends(page.span, page.Page)
		switch {
		case !before.known && page.provesAbove(page.Page):
			b.region.ToEnd = true
		case before.known && page.provesAbove(page.Page) && (!ok || highest.Key.Compare(before.low) < 0):
			b.region.High = before.low
		default:
			b.region.High = highest.Key
		}
	}
	b.region.Low = after.low
	b.region.FromStart = after.done
	b.region.LowestOffset = page.offset
}

// addSet adds the page of a set of customers that shows all their listed rows.
func (b *block) addSet(page listedPage) {
	b.add(page, nil)
	if b.region == nil {
		b.region = &store.Region{FromStart: true, ToEnd: true}
	}
	b.region.Customers = append(b.region.Customers, page.filter.CustomerIDs...)
}

// take empties the block and returns what it held.
func (b *block) take() *store.Block {
	taken := &store.Block{
		CustomerMeters: b.rows,
		Rejected:       b.rejected,
		Region:         b.region,
		RequestedAt:    b.oldest,
	}
	*b = block{}
	return taken
}

// A saver gathers the pages of a run in blocks, and writes a block while the next
// is gathered. Blocks are saved in order, and none after one that could not be
// saved: a cursor below rows that are missing would lose them.
type saver struct {
	run    *Run
	block  block
	cursor func(*store.Block) *store.Cursor // that moves with the block gathered by now; nil if the run has none
	onSave func(*store.Block, store.Saved)

	inHand *store.Block  // being written; nil if none is
	done   chan struct{} // closed when what follows is set
	saved  store.Saved
	err    error // a block could not be saved, and no other is
}

// startSave begins to write the block, once the one before it is written.
func (s *saver) startSave(ctx context.Context) error {
	if err := s.wait(ctx); err != nil || s.block.empty() {
		return err
	}
	b := s.block.take()
	if s.cursor != nil {
		b.Cursor = s.cursor(b)
	}
	b.Counts = s.run.counts.unrecorded()
	s.inHand, s.done = b, make(chan struct{})
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
	b := s.inHand
	if b == nil {
		return s.err
	}
	<-s.done
	s.inHand = nil
	if s.err != nil {
		return s.err
	}
	s.run.saved(b, s.saved)
	if s.onSave != nil {
		s.onSave(b, s.saved)
	}
	s.err = s.run.askAgain(ctx, s.saved.Older)
	return s.err
}

// flush writes the block in hand, and has it saved when it returns.
func (s *saver) flush(ctx context.Context) error {
	if err := s.startSave(ctx); err != nil {
		return err
	}
	return s.wait(ctx)
}
