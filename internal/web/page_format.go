package web

import (
	"fmt"
	"html/template"
	"math"
	"math/big"
	"strconv"
	"strings"
	"time"

	"polarmirror/internal/console"
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

// sum adds decimal numbers exactly.
func sum(numbers []string) string {
	total := new(big.Rat)
	for _, n := range numbers {
		if x, ok := new(big.Rat).SetString(n); ok {
			total.Add(total, x)
		}
	}
	decimals, _ := total.FloatPrec() // sums of decimals end
	return total.FloatString(decimals)
}

// span writes a duration. No-break spaces keep its units together.
func span(d time.Duration) string { return strings.ReplaceAll(console.Span(d), " ", "\u00a0") }

// ago says how long before now t was, or how long after it will be.
func ago(now, t time.Time) string {
	switch d := now.Sub(t); {
	case t.IsZero():
		return "never"
	case d <= -time.Second:
		return "in " + span(-d.Truncate(time.Second))
	case d < 0:
		return "now"
	case d < 2*time.Second:
		return "just now"
	default:
		return span(d.Truncate(time.Second)) + " ago"
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
