package mirror

import (
	"errors"
	"fmt"

	"github.com/google/uuid"
)

// ErrNotProven means that a full run could not prove that it saw every row: the
// list shifted faster than it could be read, or ranks differ after every search. The
// next full run begins anew.
var ErrNotProven = errors.New("the walk cannot prove that it saw every customer meter")

// ErrStopped means that a run ended early because it was asked to: what it had
// saved stands, and the next start goes on there.
var ErrStopped = errors.New("stopped before the end; the next start goes on from the last saved block")

// An OrderError says that a page was not in the order asked for.
type OrderError struct {
	Offset int // of the page in the list, counted from 0
	Err    error
}

func (e *OrderError) Error() string {
	return fmt.Sprintf("page at offset %d is not in the order asked for (%v): nothing can be proven about such a list; if it stays so, report it to syncd's maintainers", e.Offset, e.Err)
}

func (e *OrderError) Unwrap() error { return e.Err }

// A WrongOrganizationError says that the token sees another organization than
// the configured one. Polar itself answers with an empty list.
type WrongOrganizationError struct {
	Configured, Seen uuid.UUID
}

func (e *WrongOrganizationError) Error() string {
	return fmt.Sprintf("its token cannot see organization %s but sees %s: correct the organization's id, or use a token of that organization", e.Configured, e.Seen)
}
