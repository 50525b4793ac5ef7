package store

import (
	"encoding/binary"
	"strconv"
	"strings"

	"polarmirror/internal/polar"
)

// numericBase is the number of decimal digits in one digit of a numeric (source:
// DEC_DIGITS in Postgres's src/backend/utils/adt/numeric.c).
const numericBase = 4

// appendNumeric appends the binary form of d, as Postgres sends the numeric that
// it reads from the digits of d (source: numeric_send and set_var_from_str in
// Postgres's src/backend/utils/adt/numeric.c): the number of digits to the base
// of 10,000, the power of the first, the sign, the number of decimal digits after
// the point, and the digits, without zeros at either end.
func appendNumeric(buf []byte, d polar.Decimal) []byte {
	text := d.String()
	negative := text[0] == '-'
	if negative {
		text = text[1:]
	}
	exponent := 0
	if i := strings.IndexAny(text, "eE"); i >= 0 {
		exponent, _ = strconv.Atoi(text[i+1:]) // a JSON number within the bounds of numeric
		text = text[:i]
	}
	whole, fraction, _ := strings.Cut(text, ".")

	start := len(buf)
	buf = append(buf, 0, 0, 0, 0, 0, 0, 0, 0)
	put := func(at int, v int) { binary.BigEndian.PutUint16(buf[start+at:], uint16(v)) }
	put(6, max(0, len(fraction)-exponent))

	// The decimal digits fall into groups of four, counted from the point.
	point := len(whole) + exponent
	digits, weight, pending := 0, 0, 0
	for i := range len(whole) + len(fraction) {
		digit := int(digitAt(whole, fraction, i) - '0')
		power := point - 1 - i // of ten
		place := floorDiv(power, numericBase)
		digit *= [numericBase]int{1, 10, 100, 1000}[power-place*numericBase]
		if digit == 0 {
			continue
		}
		if digits == 0 {
			weight, pending = place, place
			digits = 1
			buf = append(buf, 0, 0)
		}
		for ; pending > place; pending-- {
			buf = append(buf, 0, 0)
			digits++
		}
		last := buf[len(buf)-2:]
		binary.BigEndian.PutUint16(last, binary.BigEndian.Uint16(last)+uint16(digit))
	}
	put(0, digits)
	put(2, weight)
	if negative && digits > 0 {
		put(4, 0x4000)
	}
	return buf
}

// digitAt returns the i-th of the decimal digits before and after the point.
func digitAt(whole, fraction string, i int) byte {
	if i < len(whole) {
		return whole[i]
	}
	return fraction[i-len(whole)]
}

// floorDiv is a divided by b, rounded down.
func floorDiv(a, b int) int {
	q := a / b
	if a%b < 0 {
		q--
	}
	return q
}
