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
	Remaining int           // rows still to be read
	Total     int           // rows of the list, by Polar's count
	Left      time.Duration // until they are read, as it goes now; negative while that is not known
	Resumed   bool
}

type noProgress struct{}

func (noProgress) Walking(string, Position)       {}
func (noProgress) Walked(string, Position, error) {}
