package polarsim

import (
	"fmt"
	"math/big"
)

// number reads a JSON number exactly.
func number(text string) (*big.Rat, error) {
	n, ok := new(big.Rat).SetString(text)
	if !ok {
		return nil, fmt.Errorf("%.40q is no number", text)
	}
	return n, nil
}

// combine returns the exact result of an operation on two JSON numbers, without
// an exponent.
func combine(a, b string, operation func(z, x, y *big.Rat) *big.Rat) (string, error) {
	x, err := number(a)
	if err != nil {
		return "", err
	}
	y, err := number(b)
	if err != nil {
		return "", err
	}
	z := operation(new(big.Rat), x, y)
	places, _ := z.FloatPrec() // sums and differences of decimals end
	return z.FloatString(places), nil
}

// compareNumbers orders JSON numbers by value. What is no number is zero.
func compareNumbers(a, b string) int {
	x, err := number(a)
	if err != nil {
		x = new(big.Rat)
	}
	y, err := number(b)
	if err != nil {
		y = new(big.Rat)
	}
	return x.Cmp(y)
}
