package mirror

import "time"

// Progress is told how walks get on. Its methods are called from several
// goroutines, one at a time per organization.
type Progress interface {
	// Walking says where a walk is: after it began, and after each page.
	Walking(organization string, at Position)
	// Walked says that the walk ended, err being nil if it is complete.
	Walked(organization string, at Position, err error)
}

// A Position is how far a walk is.
type Position struct {
	Pages     int           // read so far by this process
	Rows      int           // on those pages
	Remaining int           // rows below the lowest proven key; the walk ends at 0
	Total     int           // rows that Polar counted when the walk began
	Left      time.Duration // until they are read, as it goes now; negative while that is not known
	Resumed   bool
}

type noProgress struct{}

func (noProgress) Walking(string, Position)       {}
func (noProgress) Walked(string, Position, error) {}
