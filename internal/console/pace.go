package console

import "time"

// paceWindow is the time over which speed is measured: long enough to be
// steady, short enough to notice that some pages are slower than others.
const paceWindow = 15 * time.Second

// A Pace tells from where work was lately how fast it goes. Its zero value is
// ready for use.
type Pace struct {
	points []point // of the window, and the last one before it
}

type point struct {
	at   time.Time
	rows int
}

// Add notes how many rows have been handled at a time.
func (p *Pace) Add(at time.Time, rows int) {
	p.points = append(p.points, point{at, rows})
	old := 0
	for old+1 < len(p.points)-1 && at.Sub(p.points[old+1].at) >= paceWindow {
		old++
	}
	p.points = p.points[old:]
}

// RowsPerSecond is the speed over the last seconds; 0 if it is not known yet.
func (p *Pace) RowsPerSecond() float64 {
	first, last, ok := p.ends()
	if !ok {
		return 0
	}
	return float64(last.rows-first.rows) / last.at.Sub(first.at).Seconds()
}

func (p *Pace) ends() (first, last point, ok bool) {
	if len(p.points) < 2 {
		return point{}, point{}, false
	}
	first, last = p.points[0], p.points[len(p.points)-1]
	return first, last, last.at.After(first.at)
}
