package localpg_test

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sync/errgroup"

	"polarmirror/internal/localpg"
)

func TestTheLastOfTwoProcessesStopsTheServer(t *testing.T) {
	t.Parallel()
	dir := dataDir(t)
	first := startHelper(t, dir, nil)
	pid := postmasterPID(t, dir)
	second := startHelper(t, dir, nil)
	if diff := cmp.Diff(first.address, second.address); diff != "" {
		t.Errorf("the second process uses another server (-first +second):\n%s", diff)
	}
	first.leave(t)
	if got := query(t, second.URL, `SELECT 'here'`); got != "here" {
		t.Errorf("got %q", got)
	}
	if got := postmasterPID(t, dir); got != pid {
		t.Errorf("server process %d became %d", pid, got)
	}
	second.leave(t)
	assertStopped(t, dir, pid)
}

func TestServerOfAKilledProcessIsAdopted(t *testing.T) {
	t.Parallel()
	dir := dataDir(t)
	killed := startHelper(t, dir, nil)
	pid := postmasterPID(t, dir)
	exec1(t, killed.URL, `CREATE TABLE kept AS SELECT 'row' AS what`)
	killed.kill(t)
	if !alive(pid) {
		t.Fatal("the server died with its user")
	}
	next, err := localpg.Start(t.Context(), options(dir))
	if err != nil {
		t.Fatal(err)
	}
	if got := postmasterPID(t, dir); got != pid {
		t.Errorf("server process %d was not adopted: now %d", pid, got)
	}
	if got := query(t, next.URL(), `SELECT what FROM kept`); got != "row" {
		t.Errorf("got %q", got)
	}
	stop(t, next)
	assertStopped(t, dir, pid)
}

func TestProcessKilledWhileStartingLeavesNothingBroken(t *testing.T) {
	t.Parallel()
	dir := dataDir(t)
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	for _, stage := range []string{"password", "data.new-*", "data/PG_VERSION", "data/postmaster.pid"} {
		cmd := exec.Command(exe)
		cmd.Env = append(os.Environ(), helperEnv+"="+dir)
		stdin, err := cmd.StdinPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		eventually(t, stage+" appears", func() bool {
			// dir itself is no pattern: its name has no special characters but
			// those of a shell.
			found, err := filepath.Glob(filepath.Join(dir, stage))
			return err == nil && len(found) > 0
		})
		if err := cmd.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		_ = cmd.Wait() // reports the kill
		_ = stdin.Close()
	}
	s := start(t, options(dir))
	if got := query(t, s.URL(), `SELECT 'whole'`); got != "whole" {
		t.Errorf("got %q", got)
	}
	stop(t, s)
	assertStopped(t, dir, 0)
}

// Many users come and go at once, in this process and in others. Each must have
// a working server from its Start to its Close, and none may be left.
func TestUsersComingAndGoingNeverPullTheServerFromUnderEachOther(t *testing.T) {
	t.Parallel()
	dir := dataDir(t)
	var group errgroup.Group
	for range 4 {
		group.Go(func() error {
			for range 5 {
				s, err := localpg.Start(t.Context(), options(dir))
				if err != nil {
					return err
				}
				if _, err := tryQuery(t.Context(), s.URL(), `SELECT 'up'`); err != nil {
					return err
				}
				if err := s.Close(context.Background()); err != nil {
					return err
				}
			}
			return nil
		})
	}
	for range 5 {
		h := startHelper(t, dir, nil)
		query(t, h.URL, `SELECT 'up'`)
		h.leave(t)
	}
	if err := group.Wait(); err != nil {
		t.Error(err)
	}
	assertStopped(t, dir, 0)
}

func TestServerThatDiesInUseComesBack(t *testing.T) {
	t.Parallel()
	dir := dataDir(t)
	s := start(t, options(dir))
	exec1(t, s.URL(), `CREATE TABLE kept AS SELECT 'row' AS what`)
	exec1(t, s.URL(), `CHECKPOINT`)
	pid := postmasterPID(t, dir)
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the address answers again", func() bool {
		got, err := tryQuery(t.Context(), s.URL(), `SELECT what FROM kept`)
		return err == nil && got == "row" && postmasterPID(t, dir) != pid
	})
}

func TestServerKilledWithItsUserIsRecovered(t *testing.T) {
	t.Parallel()
	dir := dataDir(t)
	h := startHelper(t, dir, nil)
	exec1(t, h.URL, `CREATE TABLE kept AS SELECT 'row' AS what`)
	h.kill(t)
	if err := syscall.Kill(postmasterPID(t, dir), syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	s := start(t, options(dir))
	if got := query(t, s.URL(), `SELECT what FROM kept`); got != "row" {
		t.Errorf("got %q", got)
	}
}

// Process ids are reused: the pid file of a crashed server may name any process.
func TestPidFileOfAnotherProgramIsNotMistakenForAServer(t *testing.T) {
	t.Parallel()
	large(t)
	dir := dataDir(t)
	s, err := localpg.Start(t.Context(), options(dir))
	if err != nil {
		t.Fatal(err)
	}
	stop(t, s)
	other := exec.Command("sleep", "600")
	if err := other.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = other.Process.Kill(); _ = other.Wait() })
	stale := strconv.Itoa(other.Process.Pid) + "\n/somewhere\n1\n1\n\n127.0.0.1\n1 1\nready\n"
	if err := os.WriteFile(filepath.Join(dir, "data", "postmaster.pid"), []byte(stale), 0o600); err != nil {
		t.Fatal(err)
	}
	again := start(t, options(dir))
	if got := query(t, again.URL(), `SELECT 'up'`); got != "up" {
		t.Errorf("got %q", got)
	}
	if !alive(other.Process.Pid) {
		t.Error("the other program was killed")
	}
}

func TestStartCutShortLeavesNoServer(t *testing.T) {
	t.Parallel()
	dir := dataDir(t)
	for _, stage := range []string{"data.new-*", "data/PG_VERSION", "data/postmaster.pid"} {
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() {
			s, err := localpg.Start(ctx, options(dir))
			if err == nil {
				err = s.Close(context.Background())
			}
			ended <- err
		}()
		eventually(t, stage+" appears", func() bool {
			found, err := filepath.Glob(filepath.Join(dir, stage))
			return err == nil && len(found) > 0 || len(ended) > 0
		})
		cancel()
		<-ended // may have been quicker than the cancellation
		assertStopped(t, dir, 0)
	}
	leftovers, err := filepath.Glob(filepath.Join(dir, "*.*new*"))
	if err != nil {
		t.Fatal(err)
	}
	if len(leftovers) > 0 {
		t.Errorf("left behind: %v", leftovers)
	}
}
