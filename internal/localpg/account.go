package localpg

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"os/user"
	"strconv"
	"syscall"
)

// account is the user that Postgres's programs run as. They refuse to run as
// root, so root hands them to another.
type account struct {
	other *syscall.Credential // nil: stay who we are
}

// accountFor picks the account for a data folder: its owner if it exists; else the
// system's account for Postgres, else nobody.
func accountFor(data string) (account, error) {
	if os.Geteuid() != 0 {
		return account{}, nil
	}
	info, err := os.Stat(data)
	switch {
	case err == nil:
		if uid, gid := owner(info); uid != 0 {
			return account{&syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}}, nil
		}
		return account{}, fmt.Errorf("%s belongs to root, which Postgres refuses: give it to another user (chown -R postgres %s)", data, data)
	case !errors.Is(err, fs.ErrNotExist):
		return account{}, fmt.Errorf("look at the data folder: %w", err)
	}
	for _, name := range []string{"postgres", "nobody"} {
		if u, err := user.Lookup(name); err == nil {
			uid, uidErr := strconv.ParseUint(u.Uid, 10, 32)
			gid, gidErr := strconv.ParseUint(u.Gid, 10, 32)
			return account{&syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}}, errors.Join(uidErr, gidErr)
		}
	}
	return account{}, errors.New("postgres refuses to run as root and this system has neither a user postgres nor nobody: run as another user, or set database.url")
}

// command prepares a Postgres program. It gets a session of its own, so that
// Ctrl-C in our terminal does not reach it; a working folder every account may
// enter; and none of our environment, where PGDATA or PGPORT would steer it and
// secrets would be on show.
func (a account) command(ctx context.Context, program string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, program, args...)
	cmd.Dir = "/"
	cmd.Env = []string{"LC_ALL=C", "TZ=UTC"}
	for _, name := range []string{"PATH", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH"} {
		if value, ok := os.LookupEnv(name); ok {
			cmd.Env = append(cmd.Env, name+"="+value)
		}
	}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Credential: a.other}
	// The program's children share its session and process group.
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	return cmd
}
