package web

import (
	"math"
	"math/big"
	"math/rand/v2"
	"strings"
	"testing"
	"time"
)

func TestGroupedKeepsEveryDigit(t *testing.T) {
	t.Parallel()
	for number, want := range map[string]string{
		"":                          "",
		"0":                         "0",
		"999":                       "999",
		"1000":                      "1,000",
		"-1000":                     "-1,000",
		"-999.50":                   "-999.50",
		"12345678901234.123456":     "12,345,678,901,234.123456",
		"1000000000000000000000.00": "1,000,000,000,000,000,000,000.00",
		"NaN":                       "NaN",
		"1e5":                       "1e5",
		".5":                        ".5",
		"-":                         "-",
	} {
		if got := grouped(number); got != want {
			t.Errorf("grouped(%q) = %q, want %q", number, got, want)
		}
		if back := strings.ReplaceAll(grouped(number), ",", ""); back != number {
			t.Errorf("grouped(%q) without commas is %q", number, back)
		}
	}
}

func TestSumIsExact(t *testing.T) {
	t.Parallel()
	for range 200 {
		var numbers []string
		want := new(big.Rat)
		for range rand.IntN(20) {
			x := big.NewRat(rand.Int64()-rand.Int64(), 1_000_000)
			numbers = append(numbers, x.FloatString(6))
			want.Add(want, x)
		}
		got, ok := new(big.Rat).SetString(sum(numbers))
		if !ok || got.Cmp(want) != 0 {
			t.Fatalf("sum(%v) = %s, want %s", numbers, sum(numbers), want.FloatString(6))
		}
	}
	if got := sum([]string{"9007199254740993", "0.1", "0.20"}); got != "9007199254740993.3" {
		t.Errorf("sum is %s", got)
	}
}

func TestSignedSaysWhichWay(t *testing.T) {
	t.Parallel()
	for number, want := range map[string]string{"": "", "0.000": "0", "-0": "0", "5": "+5", "-5000": "-5,000"} {
		if got := signed(number); got != want {
			t.Errorf("signed(%q) = %q, want %q", number, got, want)
		}
	}
}

func TestShortFitsAnAxis(t *testing.T) {
	t.Parallel()
	for x, want := range map[float64]string{
		0: "0", 0.5: "0.5", 7.33: "7.33", 12: "12", 999: "999", 1200: "1.2k", -1500: "-1.5k", 2_500_000: "2.5M",
		3e9: "3B", 4e12: "4T", 9e15: "9e15", 0.001: "0.001", math.Inf(1): "+Inf",
	} {
		if got := short(x, 3); got != want {
			t.Errorf("short(%v) = %q, want %q", x, got, want)
		}
	}
}

func TestAgoIsRelative(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)
	for d, want := range map[time.Duration]string{
		0: "just now", time.Second: "just now", 9876 * time.Millisecond: "9s ago", 14 * time.Second: "14s ago", 3 * time.Minute: "3m 0s ago",
		2 * time.Hour: "2h 0m ago", 5 * 24 * time.Hour: "5d 0h ago", -9876 * time.Millisecond: "in 9s", -40 * time.Second: "in 40s", -time.Millisecond: "now", -90 * time.Minute: "in 1h 30m",
	} {
		if got := strings.ReplaceAll(ago(now, now.Add(-d)), "\u00a0", " "); got != want {
			t.Errorf("%s: %q, want %q", d, got, want)
		}
	}
	if got := timeElement(time.Time{}, "x"); got != "never" {
		t.Errorf("no time is shown as %s", got)
	}
}
