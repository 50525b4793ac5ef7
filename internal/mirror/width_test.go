package mirror

import (
	"testing"

	"pgregory.net/rapid"
)

func TestWidthStaysWithinItsBounds(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		most := rapid.IntRange(1, 64).Draw(t, "most")
		w := newWidth(most)
		for range rapid.IntRange(0, 500).Draw(t, "pages") {
			slow := rapid.Bool().Draw(t, "slow")
			from, to := w.observe(slow, !slow && rapid.Bool().Draw(t, "calm"))
			switch {
			case to < 1 || to > most || to != w.current():
				t.Fatalf("%d of %d", to, most)
			case to < from && (!slow || to != from/2), to > from+1, to > from && slow:
				t.Fatalf("from %d to %d while slow is %v", from, to, slow)
			}
		}
		// It comes down to one when pages stay slow, and back when they don't.
		for range 7 * (64 + levelPages + 1) {
			w.observe(true, false)
		}
		if w.current() != 1 {
			t.Fatalf("%d of %d while all is slow", w.current(), most)
		}
		for range 1 + levelPages + 64*65 {
			w.observe(false, true)
		}
		if w.current() != most {
			t.Fatalf("%d of %d when all is well", w.current(), most)
		}
	})
}

// A page that was asked for under the old width says nothing about the new one.
func TestWidthIsHeldUntilItCanShowItsEffect(t *testing.T) {
	t.Parallel()
	w := newWidth(8)
	w.observe(true, false)
	for range 8 + levelPages {
		if _, to := w.observe(true, false); to != 4 {
			t.Fatalf("changed to %d at once", to)
		}
	}
	if _, to := w.observe(true, false); to != 2 {
		t.Errorf("%d in the end, want 2", to)
	}
}
