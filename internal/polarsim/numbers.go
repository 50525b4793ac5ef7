package polarsim

import (
	"fmt"
	"math/big"
)

// number reads a JSON number exactly. It panics if text is none, as only a test can
// have put it in.
func number(text string) *big.Rat {
	n, ok := new(big.Rat).SetString(text)
	if !ok {
		panic(fmt.Sprintf("polarsim: %.40q is no number", text))
	}
	return n
}

// combine returns the exact result of an operation on two JSON numbers, without
// an exponent.
func combine(a, b string, operation func(z, x, y *big.Rat) *big.Rat) string {
	z := operation(new(big.Rat), number(a), number(b))
	places, _ := z.FloatPrec() // sums and differences of decimals end
	return z.FloatString(places)
}

// compareNumbers orders JSON numbers by value.
func compareNumbers(a, b string) int { return number(a).Cmp(number(b)) }
