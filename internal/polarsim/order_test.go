package polarsim

import (
	"fmt"
	"math/big"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// TestViewsStaySortedThroughAnyChange compares pages out of views that were
// patched with lists sorted from nothing.
func TestViewsStaySortedThroughAnyChange(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		s := New(Options{Seed: rapid.Uint64().Draw(t, "seed"), StableTies: true, NullsSmallest: rapid.Bool().Draw(t, "nulls"), Unseen: rapid.Bool().Draw(t, "unseen"),
			Organizations: []Organization{{Name: "a", CustomerMeters: rapid.IntRange(0, 60).Draw(t, "a")}, {Name: "b", CustomerMeters: 5}}})
		var all []criterion
		for _, property := range properties() {
			all = append(all, criterion{property: property}, criterion{property: property, descending: true})
		}
		orders := rapid.SliceOfN(rapid.SliceOfN(rapid.SampledFrom(all), 1, 3), 1, 5).Draw(t, "orders")
		chance := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "chance"), 0))
		for range rapid.IntRange(1, 60).Draw(t, "changes") {
			change := s.Mutate(chance)
			for _, criteria := range orders {
				s.mu.Lock()
				f := filter{organizations: s.organizations[:1]}
				got := s.view(f, criteria).ordered.page(0, 1000, apart, 0)
				patched := s.views
				s.views = nil
				want := s.view(f, criteria).ordered.page(0, 1000, apart, 0)
				s.views = patched
				s.mu.Unlock()
				if !slices.Equal(got, want) {
					t.Fatalf("after %q the list in order %v is not sorted anew", change.Kind, criteria)
				}
			}
		}
	})
}

// apart is a comparison without ties.
func apart(a, b *row) int { return 1 }

func TestPageOfALongListIsTheSameAsOfASlice(t *testing.T) {
	t.Parallel()
	s := New(Options{Organizations: []Organization{{Name: "a", CustomerMeters: 1500}}})
	criteria := []criterion{{property: "created_at"}, {property: "customer_id"}, {property: "meter_id"}}
	v := s.view(filter{organizations: s.organizations}, criteria)
	chance := rand.New(rand.NewPCG(3, 3))
	for range 9000 {
		s.Mutate(chance)
		if chance.IntN(3) > 0 {
			s.mu.Lock()
			s.addSome(s.organizations[0], chance, s.now()-chance.Int64N(1e13))
			s.mu.Unlock()
		}
	}
	v = s.view(v.filter, criteria)
	var want []*row
	for _, r := range s.organizations[0].rows {
		if v.filter.match(r) {
			want = append(want, r)
		}
	}
	slices.SortFunc(want, v.ordered.compare)
	if v.ordered.size != len(want) {
		t.Fatalf("the view has %d rows, want %d", v.ordered.size, len(want))
	}
	for from := 0; from < len(want); from += 37 {
		if got := v.ordered.page(from, from+100, v.ties, 9); !slices.Equal(got, want[from:min(from+100, len(want))]) {
			t.Fatalf("the page at %d differs", from)
		}
	}
}

func TestShuffledIsAPermutation(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(1, 3000).Draw(t, "n")
		key := rapid.Uint64().Draw(t, "key")
		seen := make([]bool, n)
		for i := range n {
			at := shuffled(i, n, key)
			if at < 0 || at >= n || seen[at] {
				t.Fatalf("place %d of %d went to %d, which is taken or not there", i, n, at)
			}
			seen[at] = true
		}
	})
}

func TestShuffledPutsEachRowEverywhere(t *testing.T) {
	t.Parallel()
	for _, n := range []int{2, 3, 7} {
		counts := make([]int, n)
		for key := range uint64(n) * 1000 {
			counts[shuffled(0, n, mix(key))]++
		}
		for at, count := range counts {
			if count < 700 || count > 1300 {
				t.Errorf("of %d rows the first came to place %d in %d of %d orders", n, at, count, n*1000)
			}
		}
	}
}

func TestNumbersCompareAndSubtractByValue(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		text := rapid.StringMatching(`-?(0|[1-9][0-9]{0,20})(\.[0-9]{1,12})?([eE][+-]?[0-9]{1,2})?`)
		a, b := text.Draw(t, "a"), text.Draw(t, "b")
		x, _ := new(big.Rat).SetString(a)
		y, _ := new(big.Rat).SetString(b)
		if got, want := compareNumbers(a, b), x.Cmp(y); got != want {
			t.Fatalf("comparing %s with %s gives %d, want %d", a, b, got, want)
		}
		difference, err := difference(a, b)
		if err != nil {
			t.Fatal(err)
		}
		got, ok := new(big.Rat).SetString(difference)
		if want := new(big.Rat).Sub(x, y); !ok || got.Cmp(want) != 0 || strings.ContainsAny(difference, "eE") {
			t.Fatalf("%s - %s = %s, want %s", a, b, difference, want.FloatString(40))
		}
	})
	if compareNumbers("1e400000", "9e399999") != 1 || compareNumbers("-1e400000", "0.1") != -1 {
		t.Error("numbers too large to calculate with are not compared")
	}
}

func TestTokensAreNeverPrinted(t *testing.T) {
	t.Parallel()
	token := Token{Secret: "polar_oat_secret"}
	o := Organization{Name: "a", Token: "polar_oat_secret"}
	for _, text := range []string{fmt.Sprint(token), fmt.Sprintf("%+v %#v", token, token), fmt.Sprintf("%v %+v", o, []Organization{o})} {
		if strings.Contains(text, "secret") {
			t.Errorf("printed %s", text)
		}
	}
}
