package mirror

import "errors"

// ErrNotProven means that a full run could not prove that it saw every row: the
// list shifted faster than it could be read, or ranks differ after every search. The
// next full run begins anew.
var ErrNotProven = errors.New("the run cannot prove that it saw every customer meter")

// ErrStopped means that a run ended early because it was asked to: what it had
// saved stands, and the next start goes on there.
var ErrStopped = errors.New("stopped before the end; the next start goes on from the last saved block")
