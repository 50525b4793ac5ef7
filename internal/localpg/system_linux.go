package localpg

import (
	"fmt"
	"os"
	"os/exec"
	"strconv"
)

// reach returns a path by which cmd can use dir. If cmd drops root's rights,
// folders above dir may be closed to it (/root/x/.syncd), so it inherits the
// open folder, and the path goes through that. Postgres's children are forked
// from it and inherit the same; nothing in Postgres asks for the path's name.
// The caller closes release after cmd has started.
func (a account) reach(cmd *exec.Cmd, dir string) (path string, release func(), err error) {
	if a.other == nil {
		return dir, func() {}, nil
	}
	if _, err := os.Stat("/proc/self/fd"); err != nil {
		return "", nil, fmt.Errorf("/proc is not mounted, which running the embedded database as root needs: mount it, run as another user, or set database.url: %w", err)
	}
	f, err := os.Open(dir)
	if err != nil {
		return "", nil, err
	}
	cmd.ExtraFiles = append(cmd.ExtraFiles, f)
	fd := 2 + len(cmd.ExtraFiles) // see exec.Cmd.ExtraFiles
	return "/proc/self/fd/" + strconv.Itoa(fd), func() { _ = f.Close() }, nil
}

// isPostmaster reports whether process pid is alive and is the server of the
// data folder: a postmaster's working folder is its data folder. Process ids are
// reused, after a restarted container within seconds, so being alive says
// nothing. A zombie has no working folder and counts as dead.
func isPostmaster(pid int, data string) bool {
	cwd, err := os.Stat("/proc/" + strconv.Itoa(pid) + "/cwd")
	if err != nil {
		return false
	}
	dir, err := os.Stat(data)
	return err == nil && os.SameFile(cwd, dir)
}
