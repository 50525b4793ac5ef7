package polarsim

import (
	"cmp"
	"fmt"
	"math"
	"math/big"
	"strconv"
	"strings"
)

// maxExponent bounds the numbers that are calculated with; the API's column is
// a Postgres numeric, and nothing near this comes from it.
const maxExponent = 400

// A decimal is unscaled / 10^scale, exactly.
type decimal struct {
	unscaled *big.Int
	scale    int // never negative
}

// parseDecimal reads a JSON number.
func parseDecimal(text string) (decimal, error) {
	n, err := splitNumber(text)
	if err != nil {
		return decimal{}, err
	}
	if n.digits == "" {
		return decimal{unscaled: new(big.Int)}, nil
	}
	scale := len(n.digits) - n.point
	if scale > maxExponent || scale < -maxExponent {
		return decimal{}, fmt.Errorf("number %.40q: exponent out of range", text)
	}
	unscaled, ok := new(big.Int).SetString(n.digits, 10)
	if !ok {
		return decimal{}, fmt.Errorf("number %.40q: not decimal", text)
	}
	if scale < 0 {
		unscaled.Mul(unscaled, pow10(-scale))
		scale = 0
	}
	if n.negative {
		unscaled.Neg(unscaled)
	}
	return decimal{unscaled: unscaled, scale: scale}, nil
}

func pow10(n int) *big.Int {
	return new(big.Int).Exp(big.NewInt(10), big.NewInt(int64(n)), nil)
}

// plus returns d + sign*o, with the larger of the two scales.
func (d decimal) plus(o decimal, sign int64) decimal {
	scale := max(d.scale, o.scale)
	a := new(big.Int).Mul(d.unscaled, pow10(scale-d.scale))
	b := new(big.Int).Mul(o.unscaled, pow10(scale-o.scale))
	return decimal{unscaled: a.Add(a, b.Mul(b, big.NewInt(sign))), scale: scale}
}

// String writes d without an exponent.
func (d decimal) String() string { return placePoint(d.unscaled.String(), d.scale) }

// placePoint puts a decimal point before the last scale digits.
func placePoint(digits string, scale int) string {
	if scale == 0 {
		return digits
	}
	sign := ""
	if strings.HasPrefix(digits, "-") {
		sign, digits = "-", digits[1:]
	}
	if len(digits) <= scale {
		digits = strings.Repeat("0", scale-len(digits)+1) + digits
	}
	return sign + digits[:len(digits)-scale] + "." + digits[len(digits)-scale:]
}

// difference returns credited - consumed, exactly.
func difference(credited, consumed string) (string, error) { return combine(credited, consumed, -1) }

// sum returns a + b, exactly.
func sum(a, b string) (string, error) { return combine(a, b, 1) }

// combine returns a + sign*b.
func combine(a, b string, sign int64) (string, error) {
	if x, scaleX, ok := short(a); ok {
		if y, scaleY, ok := short(b); ok {
			scale := max(scaleX, scaleY)
			n := x*power(scale-scaleX) + sign*y*power(scale-scaleY)
			return placePoint(strconv.FormatInt(n, 10), scale), nil
		}
	}
	x, err := parseDecimal(a)
	if err != nil {
		return "", err
	}
	y, err := parseDecimal(b)
	if err != nil {
		return "", err
	}
	return x.plus(y, sign).String(), nil
}

// short reads what most quantities are: up to eleven digits and six decimals,
// so that they can be aligned and added within 64 bits.
func short(text string) (unscaled int64, scale int, ok bool) {
	whole, fraction, _ := strings.Cut(text, ".")
	if len(whole) > 11 || len(fraction) > 6 {
		return 0, 0, false
	}
	if fraction != "" {
		whole += fraction
	}
	n, err := strconv.ParseInt(whole, 10, 64)
	return n, len(fraction), err == nil && text[0] != '+'
}

func power(n int) int64 {
	p := int64(1)
	for range n {
		p *= 10
	}
	return p
}

// A number is 0.digits * 10^point, the form in which numbers of any length can
// be compared without calculating.
type number struct {
	negative bool
	digits   string // neither leading nor trailing zeros; empty is zero
	point    int
}

func splitNumber(text string) (number, error) {
	var n number
	rest, negative := strings.CutPrefix(text, "-")
	n.negative = negative
	mantissa, exponent := rest, 0
	if i := strings.IndexAny(rest, "eE"); i >= 0 {
		e, err := strconv.Atoi(rest[i+1:])
		if err != nil || e > math.MaxInt32 || e < math.MinInt32 {
			return n, fmt.Errorf("number %.40q: bad exponent", text)
		}
		mantissa, exponent = rest[:i], e
	}
	whole, fraction, _ := strings.Cut(mantissa, ".")
	digits := whole + fraction
	if whole == "" || strings.Trim(digits, "0123456789") != "" {
		return n, fmt.Errorf("number %.40q: not decimal", text)
	}
	n.point = len(whole) + exponent
	trimmed := strings.TrimLeft(digits, "0")
	n.point -= len(digits) - len(trimmed)
	n.digits = strings.TrimRight(trimmed, "0")
	if n.digits == "" {
		return number{}, nil
	}
	return n, nil
}

// compareNumbers orders JSON numbers by value, as -1, 0 or 1. What is no number is zero.
func compareNumbers(a, b string) int {
	if a == b {
		return 0
	}
	x, errX := splitNumber(a)
	y, errY := splitNumber(b)
	if errX != nil {
		x = number{}
	}
	if errY != nil {
		y = number{}
	}
	if sx, sy := x.sign(), y.sign(); sx != sy || sx == 0 {
		return cmp.Compare(sx, sy)
	}
	c := cmp.Or(cmp.Compare(x.point, y.point), strings.Compare(x.digits, y.digits))
	if x.negative {
		c = -c
	}
	return c
}

func (n number) sign() int {
	switch {
	case n.digits == "":
		return 0
	case n.negative:
		return -1
	}
	return 1
}
