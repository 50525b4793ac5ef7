package mirror

import (
	"math"
	"testing"
	"time"

	"pgregory.net/rapid"
)

func seconds(s float64) time.Duration { return time.Duration(s * float64(time.Second)) }

// Whatever line latencies lie on, after some pages of a descent those below are
// foreseen, though a page now and then takes for ever.
func TestLatencyLearnsTheLine(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		base := rapid.Float64Range(0.005, 5).Draw(t, "base")
		perRow := rapid.Float64Range(0, 5e-5).Draw(t, "perRow")
		top := rapid.IntRange(30_000, 3_000_000).Draw(t, "top")
		hangs := rapid.IntRange(20, 1000).Draw(t, "hangs")
		l := newLatency()
		l.observe(0, seconds(base))
		for i := range 300 {
			offset := top - 88*i
			took := base + perRow*float64(offset)
			if i%hangs == hangs-1 {
				took += 600
			}
			l.observe(offset, seconds(took))
		}
		start, slope, known := l.line()
		for _, offset := range []int{0, top / 4, top / 2, top - 300*88} {
			got, want := start+slope*float64(offset), base+perRow*float64(offset)
			if !known || math.Abs(got/want-1) > 0.25 {
				t.Errorf("at offset %d: %v s, want %v (known: %v)", offset, got, want, known)
			}
		}
	})
}

// The first page off the start may be the odd one.
func TestOddFirstPageIsForgotten(t *testing.T) {
	t.Parallel()
	for _, times := range []float64{0.001, 0.1, 10, 1000} {
		l := newLatency()
		l.observe(0, 150*time.Millisecond)
		for i := range 200 {
			offset := 1_000_000 - 88*i
			took := 0.15 + 7e-6*float64(offset)
			if i == 0 {
				took *= times
			}
			l.observe(offset, seconds(took))
			if slow, _ := l.slow(offset); slow {
				t.Errorf("%v times as long: page %d is slow", times, i)
			}
			if got := l.usual(offset) / took; i == 199 && times <= 10 && (got < 0.8 || got > 1.25) {
				t.Errorf("%v times as long: %v times too much is usual", times, got)
			}
		}
		start, perRow, _ := l.line()
		if got := (start + perRow*1e6) / 7.15; got < 0.75 || got > 1.25 {
			t.Errorf("%v times as long: %v times what is expected", times, got)
		}
	}
}

func TestOnePageTeachesLittle(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		l := newLatency()
		l.observe(0, 150*time.Millisecond)
		offset := rapid.IntRange(1000, 1_000_000).Draw(t, "offset")
		took := 0.15 + 7e-6*float64(offset)
		for range 40 {
			l.observe(offset, seconds(took))
		}
		l.observe(offset, seconds(took*rapid.Float64Range(1, 1e6).Draw(t, "times")))
		if slow, calm := l.slow(offset); slow || !calm {
			t.Errorf("after one slow page: slow %v, calm %v", slow, calm)
		}
		if got := l.usual(offset) / took; got > 1.1 {
			t.Errorf("one page made %v times as much usual", got)
		}
	})
}

// Small latencies scatter by much more than their size on a busy machine.
func TestMillisecondsAreNeverSlow(t *testing.T) {
	t.Parallel()
	l := newLatency()
	l.observe(0, time.Millisecond)
	for i := range 500 {
		l.observe(50_000, time.Duration(1+i)*time.Millisecond/4)
		if slow, _ := l.slow(50_000); slow {
			t.Fatalf("%d ms are slow", (1+i)/4)
		}
	}
}

func TestTimeoutFollowsWhatIsExpected(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		l := newLatency()
		var last time.Duration
		for range rapid.IntRange(1, 200).Draw(t, "pages") {
			offset := rapid.IntRange(0, 2_000_000).Draw(t, "offset")
			last = seconds(rapid.Float64Range(0.001, 100).Draw(t, "seconds"))
			l.observe(offset, last)
			got := l.timeout(offset)
			if got > maxWait || got < min(seconds(patience*l.usual(offset)), maxWait) {
				t.Fatalf("%v for a page that takes %v s as a rule", got, l.usual(offset))
			}
		}
	})
}

func TestStartIsInDoubtUntilMeasuredWell(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name   string
		starts []time.Duration
		doubt  bool
		base   float64
	}{
		{"nothing seen", nil, true, usualBase},
		{"a quick answer", []time.Duration{200 * time.Millisecond}, false, 0.2},
		{"a slow one", []time.Duration{3 * time.Second}, true, 3},
		{"a slow one, then a quick one", []time.Duration{3 * time.Second, 200 * time.Millisecond}, false, 0.2},
		{"slow ones", []time.Duration{3 * time.Second, 4 * time.Second}, false, 3},
	} {
		l := newLatency()
		for _, took := range tt.starts {
			l.observe(0, took)
		}
		if l.doubtful() != tt.doubt || l.base != tt.base {
			t.Errorf("%s: in doubt %v, %v s", tt.name, l.doubtful(), l.base)
		}
	}
}
