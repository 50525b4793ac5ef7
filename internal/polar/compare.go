package polar

import "math"

// Sign returns -1, 0 or +1.
func (d Decimal) Sign() int {
	n, _ := splitNumber(d.String())
	if firstDigit(d.String()[n.start:n.end]) < 0 {
		return 0
	}
	if n.negative {
		return -1
	}
	return 1
}

// Equal reports whether d and o are the same number, whatever their digits:
// 25.0 is 25, 1e-7 is 0.0000001, -0 is 0.
func (d Decimal) Equal(o Decimal) bool { return d.text == o.text || d.Cmp(o) == 0 }

// Cmp compares the numbers and returns -1, 0 or +1. It does not expand
// exponents.
func (d Decimal) Cmp(o Decimal) int {
	sign, other := d.Sign(), o.Sign()
	switch {
	case sign < other:
		return -1
	case sign > other:
		return 1
	case sign == 0:
		return 0
	}
	return sign * cmpMagnitude(d.String(), o.String())
}

// cmpMagnitude compares two numbers other than zero without their signs.
func cmpMagnitude(a, b string) int {
	x, _ := splitNumber(a)
	y, _ := splitNumber(b)
	a, b = a[x.start:x.end], b[y.start:y.end]
	i, j := firstDigit(a), firstDigit(b)
	if p, q := x.lead(i), y.lead(j); p != q {
		if p < q {
			return -1
		}
		return 1
	}
	for i < len(a) || j < len(b) {
		var p, q byte = '0', '0'
		p, i = nextDigit(a, i)
		q, j = nextDigit(b, j)
		if p != q {
			if p < q {
				return -1
			}
			return 1
		}
	}
	return 0
}

// nextDigit returns the digit at or, past the point, after i, and where to go
// on; beyond the end of the mantissa the digits are zeros.
func nextDigit(mantissa string, i int) (digit byte, next int) {
	if i < len(mantissa) && mantissa[i] == '.' {
		i++
	}
	if i >= len(mantissa) {
		return '0', i
	}
	return mantissa[i], i + 1
}

// Int64 returns d as an integer; ok is false if it has a fraction other than
// zero or does not fit. 100.0 and 1e2 are the integer 100, as in JSON Schema.
func (d Decimal) Int64() (v int64, ok bool) {
	text := d.String()
	n, _ := splitNumber(text)
	mantissa := text[n.start:n.end]
	first := firstDigit(mantissa)
	if first < 0 {
		return 0, true
	}
	power := n.lead(first)
	if power < 0 || power > 18 {
		return 0, false
	}
	var u uint64 // at most 19 digits, which fit
	for i := first; i < len(mantissa) || power >= 0; power-- {
		var digit byte
		digit, i = nextDigit(mantissa, i)
		if power >= 0 {
			u = u*10 + uint64(digit-'0')
		} else if digit != '0' {
			return 0, false
		}
	}
	switch {
	case n.negative && u <= 1<<63:
		return -int64(u), true //nolint:gosec // -(1<<63) wraps to itself, as it should
	case !n.negative && u <= math.MaxInt64:
		return int64(u), true
	}
	return 0, false
}
