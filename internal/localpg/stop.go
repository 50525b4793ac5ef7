package localpg

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"syscall"
	"time"

	"go.uber.org/zap"
)

// stopPostmaster ends the server: clients are cut off, work in hand is rolled
// back. If that takes too long it is told to drop everything and will recover
// from its log at the next start; nothing committed is lost either way.
// https://www.postgresql.org/docs/current/server-shutdown.html
func (s *Server) stopPostmaster(ctx context.Context) error {
	began := time.Now()
	for _, step := range []struct {
		signal syscall.Signal
		wait   time.Duration
	}{{syscall.SIGINT, fastStopWait}, {syscall.SIGQUIT, killStopWait}} {
		pm, alive := s.running()
		if !alive {
			return nil
		}
		if err := syscall.Kill(pm.pid, step.signal); err != nil && !errors.Is(err, syscall.ESRCH) {
			return fmt.Errorf("stop the database in %s (process %d): %w", s.home.dir, pm.pid, err)
		}
		stepCtx, cancel := context.WithTimeout(ctx, step.wait)
		gone := s.waitGone(stepCtx, pm.pid)
		cancel()
		if gone {
			s.log.Info("database stopped", zap.Duration("elapsed", time.Since(began)))
			return nil
		}
		if ctx.Err() != nil {
			return fmt.Errorf("wait for the database in %s to stop (process %d): %w", s.home.dir, pm.pid, ctx.Err())
		}
	}
	return fmt.Errorf("the database in %s does not stop: see %s", s.home.dir, s.home.path(logName))
}

func (s *Server) waitGone(ctx context.Context, pid int) bool {
	for isPostmaster(pid, s.home.path(dataName)) {
		if pause(ctx, statusPoll) != nil {
			return false
		}
	}
	return true
}

// abort stops a server that is still starting.
func (s *Server) abort(cmd *exec.Cmd, exited <-chan error) error {
	for _, signal := range []syscall.Signal{syscall.SIGINT, syscall.SIGQUIT} {
		if err := cmd.Process.Signal(signal); err != nil && !errors.Is(err, os.ErrProcessDone) {
			return err
		}
		select {
		case <-exited:
			return nil
		case <-time.After(abortWait):
		}
	}
	return fmt.Errorf("the starting database in %s does not stop: see %s", s.home.dir, s.home.path(logName))
}
