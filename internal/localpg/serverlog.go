package localpg

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"syscall"
	"time"

	"go.uber.org/zap"
)

const (
	maxLogBytes = 8 << 20
	tailBytes   = 16 << 10 // read to find out why the server ended
	watchEvery  = 5 * time.Second
)

// openServerLog opens the server's log for appending and returns its length.
func (s *Server) openServerLog() (*os.File, int64, error) {
	if err := s.trimServerLog(); err != nil {
		return nil, 0, err
	}
	f, err := s.home.create(logName)
	if err != nil {
		return nil, 0, fmt.Errorf("open the server's log: %w", explain(err))
	}
	info, err := f.Stat()
	if err != nil {
		return nil, 0, errors.Join(err, f.Close())
	}
	return f, info.Size(), nil
}

// trimServerLog moves the log to postgres.log.1 once it is long. The server
// holds the file open, so it is copied and emptied, not renamed; what the server
// writes in between is lost. The server appends, so it goes on at the new end.
func (s *Server) trimServerLog() error {
	path := s.home.path(logName)
	info, err := os.Stat(path)
	if err != nil || info.Size() <= maxLogBytes {
		return nil
	}
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return fmt.Errorf("trim the server's log: %w", err)
	}
	defer f.Close()
	tail := make([]byte, maxLogBytes)
	n, err := f.ReadAt(tail, info.Size()-maxLogBytes)
	if err != nil && !errors.Is(err, io.EOF) {
		return fmt.Errorf("trim the server's log: %w", err)
	}
	// A full disk must not keep the log from being emptied.
	return errors.Join(s.home.write(logName+".1", string(tail[:n])), f.Truncate(0))
}

// watch keeps the server's log short and restarts the server if it died (out of
// memory, say), until ctx ends. It comes back on the same port, so open pools
// reconnect.
func (s *Server) watch(ctx context.Context) {
	for pause(ctx, watchEvery) == nil {
		if err := s.trimServerLog(); err != nil {
			s.log.Warn("server log not trimmed", zap.Error(err))
		}
		if _, alive := s.running(); alive {
			continue
		}
		if err := s.revive(ctx); err != nil && ctx.Err() == nil {
			s.log.Error("database died and could not be restarted", zap.Error(err))
		}
	}
}

// revive restarts the server unless another user already has.
func (s *Server) revive(ctx context.Context) error {
	starting, err := acquire(ctx, s.home.path(startLock), exclusive)
	if err != nil {
		return err
	}
	defer starting.release()
	// A copy, because URL may be called meanwhile: what it returns must not
	// change, and a revived server on another port would be of no use.
	again := &Server{home: s.home, account: s.account, opts: s.opts, log: s.log, password: s.password}
	if err := again.ensureRunning(ctx, []int{s.port}); err != nil {
		return err
	}
	if again.port != s.port {
		return fmt.Errorf("another process restarted it on port %d instead of %d: restart syncd", again.port, s.port)
	}
	return s.home.writePassfile(s.port, s.password)
}

// whyExited turns the end of a server that never got ready into an error.
func (s *Server) whyExited(exit error, logStart int64) error {
	if exit == nil {
		exit = errors.New("exit status 0")
	}
	exit = fmt.Errorf("postgres: %w", exit)
	f, err := os.Open(s.home.path(logName))
	if err != nil {
		return exit
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return exit
	}
	// The end of what this server wrote: recovery may have written much before.
	from := max(logStart, info.Size()-tailBytes)
	output, err := io.ReadAll(io.NewSectionReader(f, from, tailBytes))
	if err != nil {
		return exit
	}
	return fmt.Errorf("%w; see %s", describe(exit, output), s.home.path(logName))
}

// describe adds to err what a Postgres program said last about the trouble: the
// last line that it marked as an error, or else its last line. initdb, for one,
// marks nothing when the user has no name.
func describe(err error, output []byte) error {
	text := string(output)
	if strings.Contains(text, "Address already in use") {
		return fmt.Errorf("%w: %w", err, errPortTaken)
	}
	if strings.Contains(text, "pre-existing shared memory block") {
		return fmt.Errorf("%w: %w", err, errOrphans)
	}
	said := ""
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		for _, mark := range []string{"FATAL:", "PANIC:", "error:", "ERROR:"} {
			if _, rest, ok := strings.Cut(line, mark); ok {
				said = strings.TrimSpace(rest)
			}
		}
	}
	if said == "" {
		said = lastLine(text)
	}
	if said == "" {
		return err
	}
	return explain(fmt.Errorf("%w: %.300s", err, said))
}

// lastLine is the last line of text that is not blank, "" if there is none.
func lastLine(text string) string {
	text = strings.TrimSpace(text)
	return strings.TrimSpace(text[strings.LastIndexByte(text, '\n')+1:])
}

// explain adds the cure to errors that have one.
func explain(err error) error {
	text := err.Error()
	for _, c := range []struct{ sign, cure string }{
		{syscall.ENOSPC.Error(), "free some space, or set database.data_dir to a folder on another disk"},
		{"No space left on device", "free some space, or set database.data_dir to a folder on another disk"},
		{syscall.EROFS.Error(), "set database.data_dir to a folder you may write"},
		{syscall.EACCES.Error(), "set database.data_dir to a folder you may write"},
		{"Permission denied", "set database.data_dir to a folder you may write"},
		{"could not look up effective user", "run as a user that /etc/passwd knows, or set database.url"},
		{"could not create shared memory", "give the machine or container more shared memory, or set database.url"},
	} {
		if strings.Contains(text, c.sign) {
			return fmt.Errorf("%w: %s", err, c.cure)
		}
	}
	return err
}
