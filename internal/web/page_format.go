package web

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
)

// grouped sets the thousands of a decimal number apart and leaves every digit
// as it is: 12345.670 becomes 12,345.670. What is no such number stays.
func grouped(number string) string {
	sign, digits := "", number
	if strings.HasPrefix(digits, "-") {
		sign, digits = "-", digits[1:]
	}
	whole, fraction, point := strings.Cut(digits, ".")
	if whole == "" || strings.Trim(whole, "0123456789") != "" {
		return number
	}
	var b strings.Builder
	b.WriteString(sign)
	for i, d := range whole {
		if i > 0 && (len(whole)-i)%3 == 0 {
			b.WriteByte(',')
		}
		b.WriteRune(d)
	}
	if point {
		b.WriteByte('.')
		b.WriteString(fraction)
	}
	return b.String()
}

// signed is grouped with a sign, 0 for nothing, and "" for what is unknown.
func signed(number string) string {
	switch {
	case number == "":
		return ""
	case strings.Trim(number, "-0.") == "":
		return "0"
	case strings.HasPrefix(number, "-"):
		return grouped(number)
	default:
		return "+" + grouped(number)
	}
}

func count(n int64) string { return grouped(strconv.FormatInt(n, 10)) }

// plural counts things: 1 row, 2 rows.
func plural(n int64, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return count(n) + " " + many
}

// short writes a number in few characters, for axes: 1.2k, 35M, 4e21. It is not
// exact; exact numbers stand in tables.
func short(x float64) string {
	if x < 0 {
		return "-" + short(-x)
	}
	for _, step := range []struct {
		from   float64
		suffix string
	}{{1e12, "T"}, {1e9, "B"}, {1e6, "M"}, {1e3, "k"}} {
		if x >= 1e15 || math.IsInf(x, 0) {
			return strings.Replace(strconv.FormatFloat(x, 'e', 0, 64), "e+", "e", 1)
		}
		if x >= step.from {
			return trimmed(x/step.from) + step.suffix
		}
	}
	return trimmed(x)
}

func trimmed(x float64) string {
	switch {
	case x != 0 && x < 0.01:
		return strconv.FormatFloat(x, 'g', 1, 64)
	case x < 10:
		return strings.TrimSuffix(strings.TrimRight(strconv.FormatFloat(x, 'f', 2, 64), "0"), ".")
	default:
		return strings.TrimSuffix(strconv.FormatFloat(x, 'f', 1, 64), ".0")
	}
}

// approximate is the float nearest to a decimal number, for drawing alone.
func approximate(number string) float64 {
	x, err := strconv.ParseFloat(number, 64)
	switch {
	case math.IsInf(x, 1):
		return math.MaxFloat64 / 1e6
	case math.IsInf(x, -1):
		return -math.MaxFloat64 / 1e6
	case err != nil:
		return 0
	}
	return x
}

// span writes a duration with the unit that matters: 14 s, 3 min, 2 h, 5 d. A
// no-break space keeps the two together.
func span(d time.Duration) string {
	const day = 24 * time.Hour
	switch {
	case d < 0:
		return "-" + span(-d)
	case d < time.Second:
		return fmt.Sprintf("%d\u00a0ms", d.Milliseconds())
	case d < 90*time.Second:
		return fmt.Sprintf("%d\u00a0s", int64(d/time.Second))
	case d < 90*time.Minute:
		return fmt.Sprintf("%d\u00a0min", int64(d.Round(time.Minute)/time.Minute))
	case d < 36*time.Hour:
		return fmt.Sprintf("%d\u00a0h", int64(d.Round(time.Hour)/time.Hour))
	default:
		return fmt.Sprintf("%d\u00a0d", int64(d.Round(day)/day))
	}
}

// ago says how long before now t was, or how long after it will be.
func ago(now, t time.Time) string {
	d := now.Sub(t)
	switch {
	case t.IsZero():
		return "never"
	case d < 0 && d > -time.Second:
		return "now"
	case d >= 0 && d < 2*time.Second:
		return "just now"
	case d < 0:
		return "in " + span(-d)
	default:
		return span(d) + " ago"
	}
}

// absolute is a moment in full, to the second.
func absolute(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.UTC().Format("2006-01-02 15:04:05") + " UTC"
}

// moment is how a time is shown: relative, with the whole of it behind.
type moment struct {
	Text  string
	Title string
	ISO   string
}

func momentOf(now, t time.Time) moment {
	if t.IsZero() {
		return moment{Text: "never"}
	}
	return moment{Text: ago(now, t), Title: absolute(t), ISO: t.UTC().Format(time.RFC3339)}
}

// lastMoment is momentOf for a time of a run, which is unknown if it is zero
// although there is a run.
func lastMoment(now time.Time, run int64, t time.Time) moment {
	if run != 0 && t.IsZero() {
		return moment{Text: "unknown"}
	}
	return momentOf(now, t)
}

// dated is how a time of long ago is shown: in full.
func dated(t time.Time) moment {
	if t.IsZero() {
		return moment{Text: "never"}
	}
	return moment{Text: t.UTC().Format("2006-01-02 15:04:05"), Title: absolute(t), ISO: t.UTC().Format(time.RFC3339Nano)}
}

// decimals2 is a coordinate of a drawing.
func decimals2(x float64) string { return strconv.FormatFloat(x, 'f', 2, 64) }
