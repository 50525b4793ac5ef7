package web

import (
	"fmt"
	"html/template"
	"math"
	"math/big"
	"strconv"
	"strings"
	"time"
)

// grouped sets the thousands of a decimal number apart and leaves every digit
// as it is: 12345.670 becomes 12,345.670. What is no such number stays.
func grouped(number string) string {
	digits, negative := strings.CutPrefix(number, "-")
	whole, fraction, point := strings.Cut(digits, ".")
	if whole == "" || strings.Trim(whole, "0123456789") != "" {
		return number
	}
	for at := len(whole) - 3; at > 0; at -= 3 {
		whole = whole[:at] + "," + whole[at:]
	}
	if negative {
		whole = "-" + whole
	}
	if point {
		whole += "." + fraction
	}
	return whole
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

// short writes a number with few digits, for axes: 1.2k, 35M, 4e21. It is not
// exact; exact numbers stand in tables.
func short(x float64, digits int) string {
	size := math.Abs(x)
	switch {
	case size < 1e-12: // what rounding leaves of zero
		return "0"
	case size >= 999.5e12:
		return strings.Replace(strconv.FormatFloat(x, 'g', digits, 64), "e+", "e", 1)
	}
	unit := 0
	for ; math.Abs(x) >= 999.5; unit++ {
		x /= 1000
	}
	return strconv.FormatFloat(x, 'g', digits, 64) + []string{"", "k", "M", "B", "T"}[unit]
}

// approximate is the float nearest to a decimal number, for drawing alone.
func approximate(number string) float64 {
	x, _ := strconv.ParseFloat(number, 64) // 0 for what is no number, infinite beyond floats
	const most = math.MaxFloat64 / 1e6
	return min(max(x, -most), most)
}

// sum adds decimal numbers exactly, with as many decimals as it takes.
func sum(numbers []string) string {
	total, decimals := new(big.Rat), 0
	for _, n := range numbers {
		x, ok := new(big.Rat).SetString(n)
		if !ok {
			continue
		}
		total.Add(total, x)
		_, fraction, _ := strings.Cut(n, ".")
		decimals = max(decimals, len(fraction))
	}
	text := total.FloatString(decimals)
	if decimals > 0 {
		text = strings.TrimSuffix(strings.TrimRight(text, "0"), ".")
	}
	return text
}

// span writes a duration with the unit that matters: 14 s, 3 min, 2 h, 5 d. A
// no-break space keeps the two together.
func span(d time.Duration) string {
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
	case d < 2*365*day:
		return fmt.Sprintf("%d\u00a0d", int64(d.Round(day)/day))
	default:
		return fmt.Sprintf("%d\u00a0years", int64(d/(365*day)))
	}
}

// ago says how long before now t was, or how long after it will be.
func ago(now, t time.Time) string {
	switch d := now.Sub(t); {
	case t.IsZero():
		return "never"
	case d <= -time.Second:
		return "in " + span(-d)
	case d < 0:
		return "now"
	case d < 2*time.Second:
		return "just now"
	default:
		return span(d) + " ago"
	}
}

// timeElement shows a time as a text, with the whole of it behind. The text is one
// of ours.
func timeElement(t time.Time, text string) template.HTML {
	if t.IsZero() {
		return "never"
	}
	t = t.UTC()
	return template.HTML(fmt.Sprintf(`<time datetime="%s" title="%s UTC">%s</time>`, t.Format(time.RFC3339Nano), t.Format(time.DateTime), text))
}
