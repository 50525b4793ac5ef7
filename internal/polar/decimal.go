package polar

import (
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"

	"github.com/go-json-experiment/json/jsontext"
)

// Bounds of Postgres's numeric without declared precision (source: PostgreSQL
// documentation, "Numeric Types").
const (
	maxDigitsBefore = 131072 // digits before the decimal point
	maxDigitsAfter  = 16383  // digits after it
)

// maxExponent bounds the exponent before any arithmetic is done with it.
// Postgres refuses exponents from half of an int32 on, even for zero.
const maxExponent = math.MaxInt32 / 4

var (
	errNotNumber = errors.New("not a JSON number")
	errBounds    = errors.New("beyond the range of Postgres's numeric")
)

// A Decimal is an exact decimal number as it stood on the wire. Its zero value
// is the number 0.
//
// Two Decimals can be the same number in different digits (25 and 25.0): use
// [Decimal.Equal], not ==.
type Decimal struct {
	text string // a JSON number within the bounds of Postgres's numeric
}

// ParseDecimal accepts exactly the numbers of JSON (RFC 8259), as far as
// Postgres's numeric can hold them: at most 131072 digits before the decimal
// point and 16383 after it once the exponent is expanded, trailing zeros
// included. It expands nothing itself: the cost depends on the length of text,
// never on the exponent.
func ParseDecimal(text string) (Decimal, error) {
	if v := jsontext.Value(text); v.Kind() != '0' || !v.IsValid() || strings.TrimSpace(text) != text {
		return Decimal{}, fmt.Errorf("%s: %w", excerpt(text), errNotNumber)
	}
	return decimalOf(text)
}

// decimalOf is ParseDecimal for what is known to be a JSON number.
func decimalOf(text string) (Decimal, error) {
	if len(text) < 1000 && !strings.ContainsAny(text, "eE") {
		return Decimal{text: text}, nil // almost always
	}
	if _, err := normalize(text); err != nil {
		return Decimal{}, fmt.Errorf("number %s: %w", excerpt(text), err)
	}
	return Decimal{text: text}, nil
}

// A number is a decimal number in the form that equal numbers share:
// 0.digits times ten to the power of point. It has neither leading nor trailing
// zeros; the number 0 is the zero value.
type number struct {
	negative bool
	digits   string
	point    int
}

// normalize returns the number that a JSON number is, and errBounds if numeric
// can't hold it.
//
// A decimal library would have to expand the digits, and the best of them ends
// at an exponent of 100,000, before numeric does.
func normalize(text string) (number, error) {
	mantissa, exponent := text, 0
	if i := strings.IndexAny(text, "eE"); i >= 0 {
		var err error
		mantissa = text[:i]
		if exponent, err = strconv.Atoi(text[i+1:]); err != nil || exponent > maxExponent || exponent < -maxExponent {
			return number{}, errBounds
		}
	}
	mantissa, negative := strings.CutPrefix(mantissa, "-")
	whole, fraction, _ := strings.Cut(mantissa, ".")
	digits := strings.TrimLeft(whole+fraction, "0")
	point := len(digits) - len(fraction) + exponent
	switch {
	case len(fraction)-exponent > maxDigitsAfter:
		return number{}, errBounds
	case digits == "":
		return number{}, nil
	case point > maxDigitsBefore:
		return number{}, errBounds
	}
	return number{negative, strings.TrimRight(digits, "0"), point}, nil
}

// number never fails: the bounds were checked when d was made.
func (d Decimal) number() number {
	n, _ := normalize(d.text)
	return n
}

// Equal reports whether d and o are the same number, whatever their digits:
// 25.0 is 25, 1e-7 is 0.0000001, -0 is 0.
func (d Decimal) Equal(o Decimal) bool { return d.text == o.text || d.number() == o.number() }

// Int64 returns d as an integer; ok is false if it has a fraction other than
// zero or does not fit. 100.0 and 1e2 are the integer 100, as in JSON Schema.
func (d Decimal) Int64() (v int64, ok bool) {
	if v, err := strconv.ParseInt(d.text, 10, 64); err == nil {
		return v, true // almost always
	}
	n := d.number()
	if n.point > 19 || len(n.digits) > n.point {
		return 0, false
	}
	text := "0" + n.digits + strings.Repeat("0", n.point-len(n.digits))
	if n.negative {
		text = "-" + text
	}
	v, err := strconv.ParseInt(text, 10, 64)
	return v, err == nil
}

// String returns the digits as they stood on the wire, such as "25.0" or
// "1e-7"; Postgres reads every such text as numeric without loss.
func (d Decimal) String() string {
	if d.text == "" {
		return "0"
	}
	return d.text
}

// MarshalJSON returns the digits as they stood on the wire, as a JSON number.
func (d Decimal) MarshalJSON() ([]byte, error) { return []byte(d.String()), nil }
