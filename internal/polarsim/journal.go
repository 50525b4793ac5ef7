package polarsim

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"time"
)

// ErrJournalInUse says that another process, or another part of this one,
// advances the same simulated Polar.
var ErrJournalInUse = errors.New("journal is in use")

// A Journal is a server whose steps are kept in a file, so that it has the same
// data again after a restart.
//
// The file holds a line that names the seed and shape of the data, then one
// line for each step: its time. A step is in the file, synced, before anyone can
// see it. So a crash leaves at most a step that nobody saw, or half a line,
// which is no step and is cut off at the next start.
type Journal struct {
	server *Server

	mu     sync.Mutex
	file   *os.File
	broken error // what a write failed with; the file's end is unknown since
}

// OpenJournal opens or begins the journal at path and returns the server it
// leads to. The options must be those it was begun with, but for limits, delays
// and clocks; o.Epoch is set by the journal. Only changes made by
// [Journal.Advance] are kept.
func OpenJournal(path string, o Options) (*Journal, error) {
	file, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open journal: %w", err)
	}
	j := &Journal{file: file}
	if err := j.open(o); err != nil {
		return nil, errors.Join(fmt.Errorf("open journal %s: %w", path, err), file.Close())
	}
	return j, nil
}

func (j *Journal) open(o Options) error {
	if err := lock(j.file); err != nil {
		return err
	}
	text, err := io.ReadAll(j.file)
	if err != nil {
		return err
	}
	whole := bytes.LastIndexByte(text, '\n') + 1
	if err := j.file.Truncate(int64(whole)); err != nil {
		return err
	}
	if _, err := j.file.Seek(int64(whole), io.SeekStart); err != nil {
		return err
	}
	if whole == 0 {
		o = o.withDefaults()
		j.server = New(o)
		return j.write(shape(o) + " epoch=" + o.Epoch.UTC().Format(time.RFC3339Nano))
	}
	return j.replay(text[:whole], o)
}

// replay makes the server anew and takes it through every step.
func (j *Journal) replay(text []byte, o Options) error {
	lines := bufio.NewScanner(bytes.NewReader(text))
	lines.Scan()
	described, epoch, _ := strings.Cut(lines.Text(), " epoch=")
	if want := shape(o); described != want {
		return fmt.Errorf("it was begun with other data (%s, not %s): remove it to begin anew", described, want)
	}
	var err error
	if o.Epoch, err = time.Parse(time.RFC3339Nano, epoch); err != nil {
		return fmt.Errorf("epoch: %w", err)
	}
	j.server = New(o)
	for n := 1; lines.Scan(); n++ {
		at, err := time.Parse(time.RFC3339Nano, lines.Text())
		if err != nil {
			return fmt.Errorf("step %d: %w", n, err)
		}
		j.server.Advance(at)
	}
	return lines.Err()
}

// shape describes the data that options lead to.
func shape(o Options) string {
	var b strings.Builder
	fmt.Fprintf(&b, "polarsim/1 seed=%d", o.Seed)
	for _, org := range o.Organizations {
		fmt.Fprintf(&b, " %q=%s/%d/%d/%g", org.Name, org.ID, org.CustomerMeters, org.Meters, org.NeverModified)
	}
	return b.String()
}

// Server returns the server.
func (j *Journal) Server() *Server { return j.server }

// Advance writes a step down, syncs it, and lets it happen.
func (j *Journal) Advance(at time.Time) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	at = at.UTC().Truncate(time.Microsecond)
	if err := j.write(at.Format(time.RFC3339Nano)); err != nil {
		return fmt.Errorf("advance simulated Polar: %w", err)
	}
	j.server.Advance(at)
	return nil
}

func (j *Journal) write(line string) error {
	if j.broken == nil {
		if _, j.broken = j.file.WriteString(line + "\n"); j.broken == nil {
			j.broken = j.file.Sync()
		}
	}
	return j.broken
}

// Close closes the file and lets others have it. The server goes on.
func (j *Journal) Close() error {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.file.Close()
}
