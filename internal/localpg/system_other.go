//go:build !linux

package localpg

import (
	"context"
	"errors"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// reach returns dir. Without Linux's /proc there is no way for another account
// into a folder below one that only root may enter, so root is refused.
func (a account) reach(_ *exec.Cmd, dir string) (path string, release func(), err error) {
	if a.other != nil {
		return "", nil, errors.New("on this system root can't run the embedded database: run as another user than root, or set database.url")
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
