package mirror

import (
	"time"

	"polarmirror/internal/store"
)

// An Observer is told what the mirror does, for metrics and the heartbeat. Its
// methods are called from many goroutines and must not block.
type Observer interface {
	// Counted says what a run has done since it was last counted: after each
	// saved block, not only when the run ends.
	Counted(organization string, counts store.Counts)
	// Ended says that a run has ended and how long it took.
	Ended(organization string, kind store.Kind, end End, elapsed time.Duration)
	// Skipped says that a scheduled time passed without a run.
	Skipped(organization string, why Skip)
	// WebhookProcessed is called with the result of each attempt to apply a delivery, and
	// how long after Polar sent it, by our clock and in whole seconds of Polar's; 0 if
	// that is to come.
	WebhookProcessed(organization string, result store.DeliveryResult, delay time.Duration)
}

// An End is how a run ended, in the words of sync_runs.status.
type End string

// The ends of runs.
const (
	Succeeded End = "succeeded"
	Failed    End = "failed"
	Abandoned End = "abandoned" // told to stop
)

// Ends are all ends.
func Ends() []End { return []End{Succeeded, Failed, Abandoned} }

// A Skip is why a scheduled time passed without a run.
type Skip string

// The reasons.
const (
	SkipBusy     Skip = "busy"        // another syncd works on the organization
	SkipAnswered Skip = "answered"    // another syncd has answered the slot
	SkipNoFull   Skip = "no_full_run" // no full run has succeeded yet
	SkipTooSoon  Skip = "too_soon"    // the last full run began less than twice its duration ago
	SkipFailed   Skip = "failed"      // the round could not begin; the log says why
)

// noObserver is the Observer of a mirror that has none.
type noObserver struct{}

func (noObserver) Counted(string, store.Counts)                                 {}
func (noObserver) Ended(string, store.Kind, End, time.Duration)                 {}
func (noObserver) Skipped(string, Skip)                                         {}
func (noObserver) WebhookProcessed(string, store.DeliveryResult, time.Duration) {}

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
