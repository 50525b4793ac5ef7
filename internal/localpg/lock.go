package localpg

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

const (
	shared    = unix.LOCK_SH
	exclusive = unix.LOCK_EX

	lockPoll = 20 * time.Millisecond
)

// lock is an flock(2) on a file. It belongs to this one open file, so two locks
// exclude each other within a process too, and the kernel drops it when the
// process ends in any way.
type lock struct{ file *os.File }

// acquire waits for the lock until ctx ends. The file is made if missing and
// never removed: removing it would let two holders lock different files.
func acquire(ctx context.Context, path string, how int) (*lock, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	for {
		ok, err := tryFlock(f, how)
		if ok {
			return &lock{file: f}, nil
		}
		if err == nil {
			err = pause(ctx, lockPoll)
		}
		if err != nil {
			return nil, errors.Join(fmt.Errorf("lock %s: %w", path, err), f.Close())
		}
	}
}

// tryFlock reports false when another open file holds a lock in the way.
func tryFlock(f *os.File, how int) (bool, error) {
	for {
		err := unix.Flock(int(f.Fd()), how|unix.LOCK_NB)
		switch {
		case err == nil:
			return true, nil
		case errors.Is(err, unix.EINTR):
		case errors.Is(err, unix.EWOULDBLOCK):
			return false, nil
		default:
			return false, err
		}
	}
}

// tryUpgrade turns a shared lock into an exclusive one unless another holder is
// in the way. flock(2) lets go of the shared lock meanwhile, so the caller must
// otherwise keep newcomers out.
func (l *lock) tryUpgrade() (bool, error) { return tryFlock(l.file, exclusive) }

// release unlocks by name before closing: a child being forked at this moment
// holds a copy of the descriptor until its exec.
func (l *lock) release() {
	_ = unix.Flock(int(l.file.Fd()), unix.LOCK_UN)
	_ = l.file.Close()
}

// pause waits for d or until ctx ends, and returns ctx's error then.
func pause(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return nil
	}
}
