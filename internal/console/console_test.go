package console

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"polarmirror/internal/mirror"
)

func TestWalkTellsItsPaceAndTheTimeLeft(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := NewScreen(nil) // without bars, nothing is drawn
		var got []string
		var w *walk
		note := func() { got = append(got, (*w.text.Load())[19:]) }
		for i, left := range []time.Duration{-1, 90 * time.Second, 0} {
			s.Walking("acme", mirror.Position{Rows: 1000 * i, Left: left})
			w = s.walks["acme"]
			note()
			time.Sleep(10 * time.Second)
		}
		if at, ok := s.Walk("acme"); !ok || at.Rows != 2000 {
			t.Errorf("it is at %+v (there: %t)", at, ok)
		}
		s.Walked("acme", mirror.Position{Rows: 3000}, nil)
		note()
		if at, ok := s.Walk("acme"); ok {
			t.Errorf("after its end it is at %+v", at)
		}
		want := []string{
			"          0 rows         0 rows/s  time left unknown",
			"      1,000 rows       100 rows/s  1m 30s left",
			"      2,000 rows       100 rows/s  0s left",
			"      3,000 rows       100 rows/s  done after 30s",
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
	})
}

func TestNumbersAndSpansAreForPeople(t *testing.T) {
	t.Parallel()
	got := map[string]string{
		"zero":     Count(0),
		"hundreds": Count(999),
		"thousand": Count(1000),
		"million":  Count(-1234567),
		"ms":       Span(340 * time.Millisecond),
		"seconds":  Span(3200 * time.Millisecond),
		"whole":    Span(3 * time.Second),
		"tens":     Span(42*time.Second + 900*time.Millisecond),
		"minutes":  Span(4*time.Minute + 5*time.Second),
		"hours":    Span(2*time.Hour + 10*time.Minute + 59*time.Second),
		"days":     Span(76 * time.Hour),
		"negative": Span(-90 * time.Second),
	}
	want := map[string]string{
		"zero": "0", "hundreds": "999", "thousand": "1,000", "million": "-1,234,567",
		"ms": "340ms", "seconds": "3.2s", "whole": "3s", "tens": "42s", "minutes": "4m 5s",
		"hours": "2h 10m", "days": "3d 4h", "negative": "-1m 30s",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestTableIsAlignedAndCannotSteerTheTerminal(t *testing.T) {
	t.Parallel()
	table := Table{Columns: []string{"name", "rows"}}
	table.Add("acme", 12)
	table.Add("ev\x1b[31mil\u202e\r\nname", int64(3))
	want := `┌───────────────────┬──────┐
│ name              │ rows │
├───────────────────┼──────┤
│ acme              │   12 │
│ ev?[31mil?  name  │    3 │
└───────────────────┴──────┘
`
	want = strings.ReplaceAll(strings.ReplaceAll(want, "───────────────────", "──────────────────"), "  │", " │")
	want = strings.ReplaceAll(want, "acme              │", "acme             │")
	if diff := cmp.Diff(want, table.String()); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// screenBuffer is what a terminal would get.
type screenBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *screenBuffer) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *screenBuffer) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}

func TestLinesDoNotTearBarsAndNoneIsLost(t *testing.T) {
	t.Parallel()
	out := &screenBuffer{}
	screen := NewScreen(out)
	screen.ShowBars(true)
	const lines, steps = 200, 200
	var group sync.WaitGroup
	group.Go(func() {
		for i := range lines {
			fmt.Fprintf(screen, "line %d of the log\n", i)
		}
	})
	for _, name := range []string{"acme", "globex"} {
		group.Go(func() {
			for i := range steps {
				screen.Walking(name, mirror.Position{Pages: i, Rows: 100 * i, Remaining: steps - i, Total: steps})
			}
			screen.Walked(name, mirror.Position{Pages: steps, Rows: 100 * steps, Total: steps}, nil)
		})
	}
	group.Wait()
	screen.Close()
	fmt.Fprintln(screen, "the end")

	text := out.String()
	from := 0
	for i := range lines {
		line := fmt.Sprintf("line %d of the log\n", i)
		at := strings.Index(text[from:], line)
		if at < 0 {
			t.Fatalf("%q is missing or out of order in:\n%q", line, text)
		}
		from += at + len(line)
	}
	for _, want := range []string{"100%", "200 pages", "20,000 rows", "done after"} {
		if !strings.Contains(text, want) {
			t.Errorf("%q is not in:\n%q", want, text)
		}
	}
	if !strings.HasSuffix(text, "\nthe end\n") {
		t.Errorf("ends with %q", text[max(0, len(text)-200):])
	}
}

func TestWalkThatIsOverAtOnceShowsNoPassingBar(t *testing.T) {
	t.Parallel()
	out := &screenBuffer{}
	bars := NewScreen(out)
	bars.ShowBars(false)
	bars.Walking("acme", mirror.Position{Remaining: 10, Total: 10})
	bars.Walked("acme", mirror.Position{Total: 10}, nil)
	bars.Walked("never begun", mirror.Position{}, nil)
	bars.Close()
	if text := out.String(); text != "" {
		t.Errorf("shown: %q", text)
	}
}

func TestCloseEndsBarsThatAreStillOpen(t *testing.T) {
	t.Parallel()
	out := &screenBuffer{}
	bars := NewScreen(out)
	bars.ShowBars(true)
	bars.Walking("acme", mirror.Position{Pages: 1, Rows: 100, Remaining: 7, Total: 10})
	bars.Walking("empty", mirror.Position{})
	bars.Walked("empty", mirror.Position{}, errors.New("no answer"))
	bars.Close()
	bars.Close()
	for _, want := range []string{"acme", "1 page ", "stopped after", "failed after"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("%q is not in %q", want, out.String())
		}
	}
}

func TestWalkThatGoesOnAfterCloseHidesNoLine(t *testing.T) {
	t.Parallel()
	out := &screenBuffer{}
	screen := NewScreen(out)
	screen.ShowBars(true)
	screen.Walking("acme", mirror.Position{Remaining: 10, Total: 10})
	screen.Close()
	screen.Walking("acme", mirror.Position{Remaining: 9, Total: 10}) // by work that did not stop in time
	fmt.Fprintln(screen, "the end")
	if text := out.String(); !strings.HasSuffix(text, "\nthe end\n") {
		t.Errorf("ends with %q", text[max(0, len(text)-100):])
	}
}
