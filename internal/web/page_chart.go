package web

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"time"
)

const day = 24 * time.Hour

func midnight(t time.Time) time.Time { return t.UTC().Truncate(day) }

// A chart shows some whole days, however few of them have values. Its drawing is
// stretched to the width that the page has; labels are text beside it, so that
// neither their size nor their distance depends on that width.
type chart struct {
	Kind  string // consumed, credited or balance
	Text  string // what it shows, in words
	Days  int    // the width of the drawing; its height is 100
	Path  string // bars or a line
	Lines []string
	Left  []string // labels of the lines, from the top
	Below []string // dates, each above the same number of days
}

// A point is a value at a time.
type point struct {
	At    time.Time
	Value string // of a decimal number; "" if it is unknown
}

// newChart draws the axes around points on the days up to now, and returns how to
// place a point: x in days from the left, y from the top.
func newChart(now time.Time, days int, points []point) (c *chart, x func(time.Time) float64, y func(float64) float64) {
	first := midnight(now).AddDate(0, 0, 1-days)
	c = &chart{Days: days}
	every := map[int]int{7: 1, 30: 6, maxDays: 15}[days]
	for at := 0; at < days; at += every {
		c.Below = append(c.Below, first.AddDate(0, 0, at).Format("Jan 2"))
	}
	var values []float64
	for _, p := range points {
		if p.Value != "" {
			values = append(values, approximate(p.Value))
		}
	}
	low, high, step := scale(values)
	y = func(value float64) float64 { return 100 * (high - value) / (high - low) }
	intervals := math.Round((high - low) / step)
	for n := range int(intervals) + 1 {
		c.Lines = append(c.Lines, coordinate(100*float64(n)/intervals))
		c.Left = append(c.Left, short(high-float64(n)*step, 10)) // round, so mostly shorter than that
	}
	return c, func(t time.Time) float64 { return t.Sub(first).Hours() / 24 }, y
}

// bars draws a bar for each day.
func bars(now time.Time, days int, points []point) *chart {
	c, x, y := newChart(now, days, points)
	var path strings.Builder
	for _, p := range points {
		if value := approximate(p.Value); value != 0 {
			fmt.Fprintf(&path, "M%s %sh.8V%sh-.8z", coordinate(x(midnight(p.At))+0.1), coordinate(y(value)), coordinate(y(0)))
		}
	}
	c.Path = path.String()
	return c
}

// line draws a line through the points, broken where a value is unknown.
func line(now time.Time, days int, points []point) *chart {
	c, x, y := newChart(now, days, points)
	var path strings.Builder
	command := "M"
	for _, p := range points {
		if p.Value == "" {
			command = "M"
			continue
		}
		// Without the h0 a point alone would not be seen.
		fmt.Fprintf(&path, "%s%s %sh0", command, coordinate(x(p.At)), coordinate(y(approximate(p.Value))))
		command = "L"
	}
	c.Path = path.String()
	return c
}

// coordinate is one of a drawing.
func coordinate(x float64) string { return fmt.Sprintf("%.2f", x) }

// scale returns the ends of an axis for values, and a step of 1, 2 or 5 times a
// power of ten that divides it. Zero is on it unless the values differ by little.
func scale(values []float64) (low, high, step float64) {
	if len(values) == 0 {
		return 0, 1, 1
	}
	low, high = slices.Min(values), slices.Max(values)
	if low == high || low > 0 && low < (high-low)*2 || high < 0 && -high < (high-low)*2 {
		low, high = min(low, 0), max(high, 0)
	}
	if low == high {
		return 0, 1, 1
	}
	rough := (high - low) / 3
	power := math.Pow(10, math.Floor(math.Log10(rough)))
	for _, n := range []float64{1, 2, 5, 10} {
		if step = n * power; step >= rough {
			break
		}
	}
	return step * math.Floor(low/step), step * math.Ceil(high/step), step
}
