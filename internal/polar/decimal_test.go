package polar

import (
	"encoding/json"
	"math/big"
	"strings"
	"testing"
	"time"

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
		want := rat(t, a).Cmp(rat(t, b))
		if got := x.Cmp(y); got != want {
			t.Errorf("%s.Cmp(%s) = %d, want %d", a, b, got, want)
		}
		if got := y.Cmp(x); got != -want {
			t.Errorf("%s.Cmp(%s) = %d, want %d", b, a, got, -want)
		}
		if got := x.Equal(y); got != (want == 0) {
			t.Errorf("%s.Equal(%s) = %v", a, b, got)
		}
		if got, want := x.Sign(), rat(t, a).Sign(); got != want {
			t.Errorf("%s.Sign() = %d, want %d", a, got, want)
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
		want int
	}{
		{"25.0", "25", 0},
		{"1e-7", "0.0000001", 0},
		{"-0", "0", 0},
		{"-0.0e5", "0e-9", 0},
		{"1e131071", "10e131070", 0},
		{"1e131071", "9e131070", 1},
		{"-1e131071", "1e-16383", -1},
		{"1E+2", "100.00", 0},
		{"0.1", "0.1000000000000000055", -1},
		{"9007199254740993", "9007199254740992", 1},
		{"-12.5", "-12.50001", 1},
	} {
		a, b := mustDecimal(t, test.a), mustDecimal(t, test.b)
		if got := a.Cmp(b); got != test.want || a.Equal(b) != (test.want == 0) {
			t.Errorf("%s.Cmp(%s) = %d, Equal %v, want %d", a, b, got, a.Equal(b), test.want)
		}
	}
	if !(Decimal{}).Equal(mustDecimal(t, "0.00")) || (Decimal{}).String() != "0" || (Decimal{}).Sign() != 0 {
		t.Error("the zero Decimal is not 0")
	}
}

// TestDecimalWorkIsBoundedByTheText would run for minutes, or out of memory, if
// an exponent were expanded anywhere. It counts allocations and so runs alone.
func TestDecimalWorkIsBoundedByTheText(t *testing.T) {
	a, b := mustDecimal(t, "1e131071"), mustDecimal(t, "1.0e131071")
	allocs := testing.AllocsPerRun(1000, func() {
		if !a.Equal(b) || a.Sign() != 1 {
			t.Error("1e131071 differs from 1.0e131071")
		}
		if _, ok := a.Int64(); ok {
			t.Error("1e131071 became an int64")
		}
	})
	if allocs != 0 {
		t.Errorf("%v allocations a comparison, want none", allocs)
	}
	if got, _ := json.Marshal(struct{ V Decimal }{mustDecimal(t, "1e-7")}); string(got) != `{"V":1e-7}` {
		t.Errorf("json.Marshal = %s", got)
	}
}

func TestParseTimeAgreesWithTheStandardLibrary(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		text := rapid.OneOf(
			rapid.StringMatching(`[12][0-9]{3}-[01][0-9]-[0-3][0-9]T[0-2][0-9]:[0-5][0-9]:[0-5][0-9](\.[0-9]{1,9})?(Z|[+-][01][0-9]:[0-5][0-9])`),
			rapid.StringMatching(`[0-9]{4}-[0-9]{2}-[0-9]{2}[T ][0-9]{2}:[0-9]{2}:[0-9]{2}[.,]?[0-9]{0,3}(Z|)`),
		).Draw(t, "text")
		got, ok := parseTime([]byte(text))
		want, err := time.Parse(time.RFC3339Nano, text)
		if strings.Contains(text, ",") {
			err = errNotNumber // the library takes commas, RFC 3339 does not
		}
		if ok != (err == nil) {
			t.Fatalf("parseTime(%q): ok = %v, library: %v", text, ok, err)
		}
		if ok && (!got.Equal(want.Truncate(time.Microsecond)) || got.Location() != time.UTC) {
			t.Errorf("parseTime(%q) = %v, want %v", text, got, want)
		}
	})
}
