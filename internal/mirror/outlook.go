package mirror

import (
	"math"
	"time"

	"polarmirror/internal/polar"
)

// overlap is how many more requests a walk takes because its pages overlap,
// for pages of Polar's size; see cover.
const overlap = 1.14

// An Outlook foretells how long it takes to read a list. Pages come as fast as
// the slowest of three lets them: the limiter, Polar, and the one who saves them.
type Outlook struct {
	PageSize int           // rows a request asks for; 0 means Polar's maximum
	InFlight int           // requests side by side
	Interval time.Duration // between two pages at least: what the limiter or the saving dictates
	Start    time.Duration // what a page at the start of the list takes
	PerRow   time.Duration // what it takes more for each row before it
}

// UsualPerRow is how much longer a page takes for each row before it, where
// that was not measured.
const UsualPerRow = time.Duration(usualPerRow * float64(time.Second))

// Requests is how many requests a walk of so many rows takes: one that looks at
// the start of the list, and the pages.
func (o Outlook) Requests(rows int) int {
	return 1 + int(math.Ceil(o.pages(float64(rows))))
}

func (o Outlook) pages(rows float64) float64 {
	return rows * overlap / float64(orDefault(o.PageSize, polar.MaxPageSize))
}

// Left is how long it takes to read the rows below an offset.
func (o Outlook) Left(offset int) time.Duration {
	return time.Duration(o.seconds(float64(offset), o.Start.Seconds(), o.PerRow.Seconds()) * float64(time.Second))
}

// seconds is Left for latencies in seconds. Above some depth it is Polar who
// decides, below it the interval.
func (o Outlook) seconds(offset, start, perRow float64) float64 {
	width, interval := float64(max(o.InFlight, 1)), o.Interval.Seconds()
	border := 0.0
	switch {
	case start >= interval*width:
	case perRow > 0:
		border = min((interval*width-start)/perRow, offset)
	default:
		border = offset
	}
	atBorder, atOffset := start+perRow*border, start+perRow*offset
	return o.pages(border)*interval + o.pages(offset-border)*(atBorder+atOffset)/2/width
}

// gap is how far apart pages around an offset come.
func (o Outlook) gap(offset, start, perRow float64) float64 {
	return max(o.Interval.Seconds(), (start+perRow*offset)/float64(max(o.InFlight, 1)))
}
