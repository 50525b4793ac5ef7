package mirror

import (
	"context"
	"errors"
)

// walk saves the proven pages of the list under filter, until p is done or until
// reports true. first, if it is not nil, is the page that p asks for first.
//
// Pages overlap, so no row that exists throughout can hide between two of them
// (see proof).
func (f *fullRun) walk(ctx context.Context, filter Filter, p *proof, first *listedPage, until func() bool) error {
	for page, err := range f.run.reader.provenPages(ctx, filter, p, first) {
		if err == nil {
			f.saver.block.addProven(page)
			err = f.take(ctx, page.listedPage)
		}
		if err != nil {
			// What was proven before the error is worth keeping: the next start
			// goes on below it.
			return errors.Join(err, f.saver.flush(ctx))
		}
		if p.done || until != nil && until() {
			break
		}
		if err := f.saveFull(ctx); err != nil {
			return err
		}
	}
	return f.saver.flush(ctx)
}
