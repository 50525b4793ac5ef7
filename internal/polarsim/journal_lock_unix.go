//go:build unix

package polarsim

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"
)

// lock keeps others from the file until it is closed, by a crash at the latest.
func lock(f *os.File) error {
	err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	if errors.Is(err, unix.EWOULDBLOCK) {
		return ErrJournalInUse
	}
	return err
}
