package web

import (
	"math"
	"math/rand/v2"
	"regexp"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

func TestChartsSpanTheirDaysWhateverTheValues(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)
	geometry := regexp.MustCompile(`^([MLHVhz]-?[0-9.]*( -?[0-9.]+)?)*$`)
	rapid.Check(t, func(t *rapid.T) {
		days := rapid.SampledFrom([]int{7, 30, 90}).Draw(t, "days")
		var points []point
		for i := range rapid.IntRange(0, days).Draw(t, "points") {
			value := rapid.SampledFrom([]string{"", "0", "5", "-3.25", "1e400", "-999999999999999999999", "<script>"}).Draw(t, "value")
			points = append(points, point{midnight(now).AddDate(0, 0, -i), value})
		}
		for name, draw := range map[string]func(time.Time, int, []point) *chart{"bars": bars, "line": line} {
			c := draw(now, days, points)
			if !geometry.MatchString(c.Path) {
				t.Fatalf("%s: path %q", name, c.Path)
			}
			if n := len(c.Left); n < 2 || n > 6 || n != len(c.Lines) || c.Lines[0] != "0.00" || c.Lines[n-1] != "100.00" {
				t.Fatalf("%s: labels %q at %q", name, c.Left, c.Lines)
			}
			if days%len(c.Below) != 0 || len(c.Below) > 7 || c.Below[0] != midnight(now).AddDate(0, 0, 1-days).Format("Jan 2") {
				t.Fatalf("%s: %q below %d days", name, c.Below, days)
			}
		}
	})
}

func TestDailyBarIsOneDayWide(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)
	c := bars(now, 30, []point{{midnight(now), "8"}, {midnight(now).AddDate(0, 0, -29), "4"}})
	if want := "M29.10 20.00h.8V100.00h-.8zM0.10 60.00h.8V100.00h-.8z"; c.Days != 30 || c.Path != want {
		t.Errorf("%s on %d days, want %s", c.Path, c.Days, want)
	}
}

func TestLineIsBrokenWhereTheValueIsUnknown(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)
	at := func(d int) time.Time { return midnight(now).AddDate(0, 0, d) }
	c := line(now, 7, []point{{at(-4), ""}, {at(-3), "10"}, {at(-2), "0"}, {at(-1), ""}, {now, "5"}})
	if want := "M3.00 0.00h0L4.00 100.00h0M6.50 50.00h0"; c.Path != want {
		t.Errorf("%s, want %s", c.Path, want)
	}
	if got := strings.Join(c.Left, " "); got != "10 5 0" {
		t.Errorf("labels %s", got)
	}
	c = line(now, 7, []point{{at(-1), "31907591"}, {now, "31997994"}})
	if got := strings.Join(c.Left, " "); got != "32M 31.95M 31.9M" {
		t.Errorf("labels %s of values that differ by little", got)
	}
}

func TestScaleHoldsAllValuesBetweenRoundNumbers(t *testing.T) {
	t.Parallel()
	for range 2000 {
		var values []float64
		size := math.Pow(10, float64(rand.IntN(24)-6))
		for range 1 + rand.IntN(30) {
			values = append(values, (rand.Float64()-float64(rand.IntN(2)))*size)
		}
		low, high, step := scale(values)
		n := (high - low) / step
		if n < 1 || n > 5 || math.Abs(n-math.Round(n)) > 1e-6 {
			t.Fatalf("%v: from %v to %v in steps of %v", values, low, high, step)
		}
		for _, v := range values {
			if v < low-step*1e-9 || v > high+step*1e-9 {
				t.Fatalf("%v lies outside %v to %v", v, low, high)
			}
		}
	}
}
