package mirror

import (
	"testing"
	"time"

	"pgregory.net/rapid"
)

// The time foretold is the sum over the pages that a walk asks for.
func TestOutlookIsTheSumOverItsPages(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		o := Outlook{
			InFlight: rapid.IntRange(1, 64).Draw(t, "inFlight"),
			Interval: time.Duration(rapid.IntRange(0, 2000).Draw(t, "interval")) * time.Millisecond,
			Start:    time.Duration(rapid.IntRange(0, 5000).Draw(t, "start")) * time.Millisecond,
			PerRow:   time.Duration(rapid.IntRange(0, 50_000).Draw(t, "perRow")),
		}
		rows := rapid.IntRange(5_000, 300_000).Draw(t, "rows")
		var sum time.Duration
		pages := 0
		for offset := rows; offset > 0; {
			s := cover(offset, 100)
			sum += max(o.Interval, (o.Start+time.Duration(s.offset)*o.PerRow)/time.Duration(o.InFlight))
			pages++
			offset = s.offset
		}
		if got := o.Left(rows); got.Seconds() > 1.05*sum.Seconds() || got.Seconds() < 0.95*sum.Seconds() {
			t.Errorf("%v, want %v", got, sum)
		}
		if got := float64(o.Requests(rows)) / float64(pages+1); got > 1.02 || got < 0.98 {
			t.Errorf("%d requests, want %d", o.Requests(rows), pages+1)
		}
	})
}

func TestNothingIsLeftOfNothing(t *testing.T) {
	t.Parallel()
	o := Outlook{InFlight: 8, Interval: time.Second, Start: time.Second, PerRow: time.Microsecond}
	if o.Left(0) != 0 || o.Requests(0) != 1 || (Outlook{}).Left(1000) != 0 {
		t.Errorf("%v, %d requests, %v", o.Left(0), o.Requests(0), (Outlook{}).Left(1000))
	}
}
