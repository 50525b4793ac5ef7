package localpg

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"go.uber.org/zap"
)

const (
	maxLogBytes = 8 << 20
	watchEvery  = 5 * time.Second
)

// watch keeps the server's log short and restarts the server if it died (out of
// memory, say), until ctx ends. It says so if another process did that, on a port that
// this one's pools know nothing of.
func (s *Server) watch(ctx context.Context) {
	for pause(ctx, watchEvery) == nil {
		if err := s.trimServerLog(); err != nil {
			s.log.Warn("server log not trimmed", zap.Error(err))
		}
		if _, port, alive := s.running(); alive && port == s.port {
			continue
		}
		if err := s.revive(ctx); err != nil && ctx.Err() == nil {
			s.log.Error("database died and could not be restarted", zap.Error(err))
		}
	}
}

// revive restarts the server unless another user already has. It comes back on
// the same port, so open pools reconnect.
func (s *Server) revive(ctx context.Context) error {
	starting, err := lock(ctx, s.home.path(startLock))
	if err != nil {
		return err
	}
	defer starting.Unlock()
	port, err := s.ensureRunning(ctx, s.port)
	if err != nil {
		return err
	}
	if port != s.port {
		return fmt.Errorf("another process restarted it on port %d instead of %d: restart syncd", port, s.port)
	}
	return s.home.writePassfile(s.port, s.password)
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
	tail, err := io.ReadAll(io.NewSectionReader(f, info.Size()-maxLogBytes, maxLogBytes))
	if err != nil {
		return fmt.Errorf("trim the server's log: %w", err)
	}
	// A full disk must not keep the log from being emptied.
	return errors.Join(s.home.write(logName+".1", string(tail)), f.Truncate(0))
}
