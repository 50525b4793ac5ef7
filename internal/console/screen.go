package console

import (
	"io"
	"sync"

	"github.com/vbauerster/mpb/v8"
)

// A Screen is where logs, messages and bars go. While bars are shown, what is
// written appears above them. It is safe for concurrent use.
type Screen struct {
	out io.Writer

	mu   sync.Mutex
	bars *mpb.Progress // nil while no bar is shown
}

// NewScreen returns a Screen that writes to out.
func NewScreen(out io.Writer) *Screen { return &Screen{out: out} }

// Write writes whole lines.
func (s *Screen) Write(lines []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.bars != nil {
		// An error says that the bars are gone, by a panic in one of them say;
		// the line is still worth seeing.
		if n, err := s.bars.Write(lines); err == nil {
			return n, nil
		}
	}
	return s.out.Write(lines)
}

// Sync is for loggers: nothing is held back.
func (s *Screen) Sync() error { return nil }

// show begins to draw bars.
func (s *Screen) show() *mpb.Progress {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.bars = mpb.New(mpb.WithOutput(s.out), mpb.WithRefreshRate(refresh), mpb.WithAutoRefresh())
	return s.bars
}

// hide waits until the bars, all of them ended, are drawn for the last time.
// Lines written meanwhile wait too, so that they come below.
func (s *Screen) hide() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.bars != nil {
		s.bars.Wait()
		s.bars = nil
	}
}
