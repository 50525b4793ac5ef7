package polar

import (
	"errors"
	"fmt"
	"math"
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
	switch checkNumber(text) {
	case nil:
		return Decimal{text: text}, nil
	case errBounds:
		return Decimal{}, fmt.Errorf("number %s: %w", excerpt(text), errBounds)
	default:
		return Decimal{}, fmt.Errorf("%s: %w", excerpt(text), errNotNumber)
	}
}

// parseDecimalBytes is ParseDecimal without an allocation for the most common
// numbers of an idle customer meter.
func parseDecimalBytes(text []byte) (Decimal, error) {
	switch string(text) {
	case "0":
		return Decimal{text: "0"}, nil
	case "0.0":
		return Decimal{text: "0.0"}, nil
	}
	return ParseDecimal(string(text))
}

// checkNumber reports nil, errNotNumber or errBounds.
func checkNumber[T ~string | ~[]byte](text T) error {
	n, ok := splitNumber(text)
	if !ok {
		return errNotNumber
	}
	if len(text) <= 1000 && n.exponent == 0 {
		return nil // plain short digits, by far the most
	}
	if n.exponent > maxExponent || n.exponent < -maxExponent {
		return errBounds
	}
	if n.fraction-n.exponent > maxDigitsAfter {
		return errBounds
	}
	if first := firstDigit(text[n.start:n.end]); first >= 0 && n.lead(first)+1 > maxDigitsBefore {
		return errBounds
	}
	return nil
}

// parts says where a JSON number's parts lie in its text.
type parts struct {
	negative   bool
	start, end int // of the mantissa
	whole      int // digits before the point
	fraction   int // digits after it
	exponent   int // saturates beyond ±maxExponent
}

// lead is the power of ten of the i-th byte of the mantissa, a digit.
func (n parts) lead(i int) int {
	if i < n.whole {
		return n.whole - 1 - i + n.exponent
	}
	return n.whole - i + n.exponent // the point takes one byte
}

// splitNumber checks text against JSON's grammar for numbers.
func splitNumber[T ~string | ~[]byte](text T) (n parts, ok bool) {
	i := 0
	if i < len(text) && text[i] == '-' {
		n.negative = true
		i++
	}
	n.start = i
	i = digitsEnd(text, i)
	n.whole = i - n.start
	if n.whole == 0 || n.whole > 1 && text[n.start] == '0' {
		return n, false
	}
	if i < len(text) && text[i] == '.' {
		end := digitsEnd(text, i+1)
		n.fraction = end - i - 1
		if n.fraction == 0 {
			return n, false
		}
		i = end
	}
	n.end = i
	if i < len(text) && (text[i] == 'e' || text[i] == 'E') {
		if n.exponent, i = scanExponent(text, i+1); i < 0 {
			return n, false
		}
	}
	return n, i == len(text)
}

// digitsEnd returns the end of the run of digits at i.
func digitsEnd[T ~string | ~[]byte](text T, i int) int {
	for i < len(text) && '0' <= text[i] && text[i] <= '9' {
		i++
	}
	return i
}

// scanExponent reads a sign and digits at i. It returns the end, -1 if there
// are no digits.
func scanExponent[T ~string | ~[]byte](text T, i int) (exponent, end int) {
	sign := 1
	if i < len(text) && (text[i] == '+' || text[i] == '-') {
		if text[i] == '-' {
			sign = -1
		}
		i++
	}
	end = digitsEnd(text, i)
	if end == i {
		return 0, -1
	}
	for ; i < end && exponent <= maxExponent; i++ {
		exponent = exponent*10 + int(text[i]-'0')
	}
	return sign * exponent, end
}

// firstDigit returns the index of the first digit of mantissa that is not 0, -1
// if the number is zero.
func firstDigit[T ~string | ~[]byte](mantissa T) int {
	for i := range len(mantissa) {
		if mantissa[i] != '0' && mantissa[i] != '.' {
			return i
		}
	}
	return -1
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
