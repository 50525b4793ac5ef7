package polar

import (
	"encoding/json"
	"math/big"
	"runtime"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func mustDecimal(t testing.TB, text string) Decimal {
	t.Helper()
	d, err := ParseDecimal(text)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// number draws JSON numbers of moderate exponents, so that big.Rat can judge.
func drawNumber(t *rapid.T, label string) string {
	return rapid.StringMatching(`-?(0|[1-9][0-9]{0,24})(\.[0-9]{1,24})?([eE][+-]?[0-9]{1,2})?`).Draw(t, label)
}

func rat(t *rapid.T, text string) *big.Rat {
	r, ok := new(big.Rat).SetString(text)
	if !ok {
		t.Fatalf("big.Rat refuses %q", text)
	}
	return r
}

func TestDecimalComparesLikeExactRationals(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		a, b := drawNumber(t, "a"), drawNumber(t, "b")
		if rapid.Bool().Draw(t, "same number in other digits") {
			b = rat(t, a).FloatString(60) // exact: a has at most 24+99 digits
			if new(big.Rat).Sub(rat(t, a), rat(t, b)).Sign() != 0 {
				b = a
			}
		}
		x, errX := ParseDecimal(a)
		y, errY := ParseDecimal(b)
		if errX != nil || errY != nil {
			t.Fatalf("ParseDecimal: %v, %v", errX, errY)
		}
		if got, want := x.Equal(y), rat(t, a).Cmp(rat(t, b)) == 0; got != want {
			t.Errorf("%s.Equal(%s) = %v", a, b, got)
		}
		r := rat(t, a)
		v, ok := x.Int64()
		if wantOK := r.IsInt() && r.Num().IsInt64(); ok != wantOK || ok && v != r.Num().Int64() {
			t.Errorf("%s.Int64() = %d, %v", a, v, ok)
		}
	})
}

func TestParseDecimalAcceptsExactlyJSONNumbers(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		text := rapid.OneOf(
			rapid.StringMatching(`[-+]?[0-9]{0,3}\.?[0-9]{0,3}[eE]?[-+]?[0-9]{0,3}`),
			rapid.StringOfN(rapid.SampledFrom([]rune("0123456789+-.eExX_ aNI")), 0, 12, -1),
		).Draw(t, "text")
		_, err := ParseDecimal(text)
		isNumber := json.Valid([]byte(text)) && strings.TrimSpace(text) == text && text[0] != 'n'
		if (err == nil) != isNumber && (err == nil || !strings.Contains(err.Error(), errBounds.Error())) {
			t.Errorf("ParseDecimal(%q) = %v; JSON number: %v", text, err, isNumber)
		}
	})
}

func TestParseDecimalKeepsTheBoundsOfNumeric(t *testing.T) {
	t.Parallel()
	zeros := strings.Repeat("0", 200_000)
	for _, test := range []struct {
		name, text string
		ok         bool
	}{
		{"largest exponent", "9e131071", true},
		{"one digit too many", "1e131072", false},
		{"leading digits count", "10e131071", false},
		{"leading zeros do not", "0.0001e131075", true},
		{"most plain digits", strings.Repeat("9", 131072), true},
		{"too many plain digits", strings.Repeat("9", 131073), false},
		{"smallest scale", "1e-16383", true},
		{"scale too large", "1e-16384", false},
		{"fraction adds to the scale", "1.5e-16383", false},
		{"most digits after the point", "0." + strings.Repeat("1", 16383), true},
		{"too many after the point", "0." + strings.Repeat("1", 16384), false},
		{"trailing zeros after the point count", "0." + zeros, false},
		{"unless the exponent takes them back", "0." + zeros + "1e200001", true},
		{"zero of any scale that fits", "0e-16383", true},
		{"zero of too large a scale", "0e-16384", false},
		{"zero with an exponent", "0e400000", true},
		{"huge exponent", "1e400000", false},
		{"exponent beyond integers", "1e99999999999999999999999999", false},
		{"negative exponent beyond integers", "1e-99999999999999999999999999", false},
		{"zero with an exponent beyond integers", "0e99999999999999999999999999", false},
		{"exponent with leading zeros", "1e" + zeros + "1", true},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			_, err := ParseDecimal(test.text)
			if (err == nil) != test.ok {
				t.Errorf("error %v, want ok = %v", err, test.ok)
			}
			if err != nil && len(err.Error()) > 200 {
				t.Errorf("message of %d bytes", len(err.Error()))
			}
		})
	}
}

func TestDecimalEqualIgnoresDigitsOfTheSameNumber(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		a, b string
		want bool
	}{
		{"25.0", "25", true},
		{"1e-7", "0.0000001", true},
		{"-0", "0", true},
		{"-0.0e5", "0e-9", true},
		{"1e131071", "10e131070", true},
		{"1e131071", "9e131070", false},
		{"-1e131071", "1e-16383", false},
		{"1E+2", "100.00", true},
		{"0.1", "0.1000000000000000055", false},
		{"9007199254740993", "9007199254740992", false},
		{"-12.5", "-12.50001", false},
		{"12.5", "-12.5", false},
	} {
		if got := mustDecimal(t, test.a).Equal(mustDecimal(t, test.b)); got != test.want {
			t.Errorf("%s.Equal(%s) = %v", test.a, test.b, got)
		}
	}
	if !(Decimal{}).Equal(mustDecimal(t, "0.00")) || (Decimal{}).String() != "0" {
		t.Error("the zero Decimal is not 0")
	}
}

// TestDecimalWorkIsBoundedByTheText allocates hundreds of megabytes if an
// exponent is expanded anywhere. It counts what is allocated and so runs alone.
func TestDecimalWorkIsBoundedByTheText(t *testing.T) {
	a, b, zero := mustDecimal(t, "1e131071"), mustDecimal(t, "1.0e131071"), mustDecimal(t, "0e500000000")
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	for range 1000 {
		if _, ok := a.Int64(); ok || !a.Equal(b) || a.Equal(zero) || !zero.Equal(Decimal{}) {
			t.Fatal("1e131071 or 0e500000000 is another number")
		}
	}
	runtime.ReadMemStats(&after)
	if got := after.TotalAlloc - before.TotalAlloc; got > 1<<20 {
		t.Errorf("%d bytes allocated", got)
	}
	if got, _ := json.Marshal(struct{ V Decimal }{mustDecimal(t, "1e-7")}); string(got) != `{"V":1e-7}` {
		t.Errorf("json.Marshal = %s", got)
	}
}
