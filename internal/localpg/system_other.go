//go:build !linux

package localpg

import (
	"context"
	"fmt"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// reach returns a path by which cmd can use dir. Without Linux's /proc there is
// no way into a folder below one that only root may enter, so that is refused.
func (a account) reach(cmd *exec.Cmd, dir string) (path string, release func(), err error) {
	if a.drop {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		if err := a.command(ctx, "/bin/ls", dir).Run(); err != nil {
			return "", nil, fmt.Errorf("postgres runs as user id %d here and can't enter %s: run as another user than root, or set database.data_dir to a folder below one that everybody may enter", a.uid, dir)
		}
	}
	return dir, func() {}, nil
}

// isPostmaster reports whether process pid is alive and looks like a Postgres
// server: process ids are reused.
func isPostmaster(pid int, _ string) bool {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	out, err := exec.CommandContext(ctx, "ps", "-o", "stat=,comm=", "-p", strconv.Itoa(pid)).Output()
	if err != nil {
		return false
	}
	state, program, _ := strings.Cut(strings.TrimSpace(string(out)), " ")
	return !strings.HasPrefix(state, "Z") && filepath.Base(strings.TrimSpace(program)) == "postgres"
}
