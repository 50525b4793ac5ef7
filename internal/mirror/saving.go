package mirror

import (
	"context"

	"polarmirror/internal/store"
)

// A saving is a block on its way into the database while the next is gathered.
type saving struct {
	block *store.Block
	done  chan struct{} // closed when what follows is set
	saved store.Saved
	err   error
}

// hand gives the block to the database and returns while it is being saved,
// once the one before it is saved. Rows and cursor of a block are saved both or
// neither, and no block after one that was not: a cursor below rows that are
// missing would lose them.
func (wk *walk) hand(ctx context.Context) error {
	if wk.lost || wk.block.empty() {
		return wk.drain(ctx)
	}
	block := wk.block.take()
	block.Prepare()
	if err := wk.drain(ctx); err != nil {
		return err
	}
	wk.cursor.RowsRejected += int64(len(block.Rejected))
	if wk.proof.known && !wk.proof.done {
		wk.cursor.Low, wk.cursor.Offset = wk.proof.low, wk.proof.offset
		cursor := wk.cursor
		block.Cursor = &cursor
	}
	wk.book(block)
	s := &saving{block: block, done: make(chan struct{})}
	wk.saving = s
	go func() {
		defer close(s.done)
		s.saved, s.err = wk.write(ctx, block)
	}()
	return nil
}

// drain waits for the block that is being saved. Until then the session is not
// to be used.
func (wk *walk) drain(ctx context.Context) error {
	s := wk.saving
	if s == nil {
		return nil
	}
	<-s.done
	wk.saving = nil
	if s.err != nil {
		wk.lost = true
		return s.err
	}
	wk.written(s.saved)
	// Rows that Postgres refused are counted after the fact; the cursor of the
	// next block carries them.
	wk.cursor.RowsRejected += s.saved.Counts.RowsRejected - int64(len(s.block.Rejected))
	return wk.settle(ctx, s.saved.Older)
}

// flush saves the block in hand, and has it saved when it returns.
func (wk *walk) flush(ctx context.Context) error {
	if err := wk.hand(ctx); err != nil {
		return err
	}
	return wk.drain(ctx)
}
