package localpg_test

import (
	"context"
	"fmt"
	"net"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"
	"golang.org/x/sync/errgroup"

	"polarmirror/internal/localpg"
)

func TestTheLastOfTwoProcessesStopsTheServer(t *testing.T) {
	t.Parallel()
	dir := madeDir(t)
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

func TestServerOfAKilledProcessIsAdoptedAndIfKilledTooRecovered(t *testing.T) {
	t.Parallel()
	dir := madeDir(t)
	killed := startHelper(t, dir, nil)
	pid := postmasterPID(t, dir)
	exec1(t, killed.URL, `CREATE TABLE kept AS SELECT 'row' AS what`)
	killed.kill(t)
	if !alive(pid) {
		t.Fatal("the server died with its user")
	}
	next := startHelper(t, dir, nil)
	if got := postmasterPID(t, dir); got != pid {
		t.Errorf("server process %d was not adopted: now %d", pid, got)
	}
	if got := query(t, next.URL, `SELECT what FROM kept`); got != "row" {
		t.Errorf("got %q", got)
	}
	next.kill(t)
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	last, err := localpg.Start(t.Context(), options(dir))
	if err != nil {
		t.Fatal(err)
	}
	if got := query(t, last.URL(), `SELECT what FROM kept`); got != "row" {
		t.Errorf("recovered %q", got)
	}
	if diff := cmp.Diff(killed.address, address{last.URL(), last.PSQL()}); diff != "" {
		t.Errorf("the address did not last (-first +last):\n%s", diff)
	}
	pid = postmasterPID(t, dir)
	stop(t, last)
	assertStopped(t, dir, pid)
}

// appeared reports whether dir, whose name has no special characters but those
// of a shell, has a file of that pattern.
func appeared(dir, pattern string) bool {
	found, err := filepath.Glob(filepath.Join(dir, pattern))
	return err == nil && len(found) > 0
}

// Many users come and go at once, in this process and in others. Each must have
// a working server from its Start to its Close, and none may be left.
func TestUsersComingAndGoingNeverPullTheServerFromUnderEachOther(t *testing.T) {
	t.Parallel()
	large(t)
	dir := madeDir(t)
	var group errgroup.Group
	for range 2 {
		group.Go(func() error {
			for range 2 {
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
	for range 2 {
		h := startHelper(t, dir, nil)
		query(t, h.URL, `SELECT 'up'`)
		h.leave(t)
	}
	if err := group.Wait(); err != nil {
		t.Error(err)
	}
	assertStopped(t, dir, 0)
}

// Not left out with -short: here the watch runs beside the server's user.
func TestServerThatDiesInUseComesBack(t *testing.T) {
	t.Parallel()
	dir := madeDir(t)
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

func TestServerThatCameBackOnAnotherPortIsSaid(t *testing.T) {
	t.Parallel()
	dir := madeDir(t)
	core, logs := observer.New(zapcore.ErrorLevel)
	o := options(dir)
	o.Log = zap.New(core)
	s := start(t, o)
	at, err := url.Parse(s.URL())
	if err != nil {
		t.Fatal(err)
	}
	// Another program takes the port before the server is started again, and another
	// process of ours starts it before this one does.
	moved := func() bool {
		pid := postmasterPID(t, dir)
		if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
		var taken net.Listener
		eventually(t, "the port is free", func() bool {
			taken, err = net.Listen("tcp", at.Host)
			return err == nil || postmasterPID(t, dir) != pid
		})
		if taken != nil {
			defer taken.Close()
		}
		return start(t, options(dir)).URL() != s.URL()
	}
	for !moved() {
	}
	eventually(t, "it is said", func() bool {
		return slices.ContainsFunc(logs.All(), func(e observer.LoggedEntry) bool {
			return strings.Contains(fmt.Sprint(e.ContextMap()["error"]), "restart syncd")
		})
	})
}

// Process ids are reused: the pid file of a crashed server may name any process, and
// another program may have its port. It may also have left a log without end. That a
// port which is free is kept, TestServerOfAKilledProcessIsAdoptedAndIfKilledTooRecovered
// shows.
func TestWhatACrashLeftIsNotTakenForAServerAndTheLogStaysShort(t *testing.T) {
	t.Parallel()
	dir := madeDir(t)
	other := exec.Command("sleep", "600")
	if err := other.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = other.Process.Kill(); _ = other.Wait() })
	stale := strconv.Itoa(other.Process.Pid) + "\n/somewhere\n1\n1\n\n127.0.0.1\n1 1\nready\n"
	if err := os.WriteFile(filepath.Join(dir, "data", "postmaster.pid"), []byte(stale), 0o600); err != nil {
		t.Fatal(err)
	}
	noise := strings.Repeat("noise\n", 2<<20) + "last\n"
	if err := os.WriteFile(filepath.Join(dir, "postgres.log"), []byte(noise), 0o600); err != nil {
		t.Fatal(err)
	}
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	_, port, _ := net.SplitHostPort(taken.Addr().String())
	if err := os.WriteFile(filepath.Join(dir, "port"), []byte(port+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	s := start(t, options(dir))
	if got := query(t, s.URL(), `SELECT 'up'`); got != "up" {
		t.Errorf("got %q", got)
	}
	u, err := url.Parse(s.URL())
	if err != nil {
		t.Fatal(err)
	}
	if u.Port() == port {
		t.Errorf("the port %s, which was taken, was used", port)
	}
	kept, err := os.ReadFile(filepath.Join(dir, "port"))
	if err != nil || string(kept) != u.Port()+"\n" {
		t.Errorf("on port %s, and %q is kept for the next time (%v)", u.Port(), kept, err)
	}
	if !alive(other.Process.Pid) {
		t.Error("the other program was killed")
	}
	for name, limit := range map[string]int{"postgres.log": 1 << 20, "postgres.log.1": 8 << 20} {
		raw, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		if len(raw) == 0 || len(raw) > limit {
			t.Errorf("%s has %d bytes", name, len(raw))
		}
		if name == "postgres.log.1" && !strings.HasSuffix(string(raw), "noise\nlast\n") {
			t.Errorf("%s lost the newest lines", name)
		}
	}
}

func TestStartCutShortLeavesNoServer(t *testing.T) {
	t.Parallel()
	large(t)
	for stage, dir := range map[string]string{"data.new-*": dataDir(t), "data/postmaster.pid": madeDir(t)} {
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() {
			s, err := localpg.Start(ctx, options(dir))
			if err == nil {
				err = s.Close(context.Background())
			}
			ended <- err
		}()
		eventually(t, stage+" appears", func() bool { return appeared(dir, stage) || len(ended) > 0 })
		cancel()
		<-ended // may have been quicker than the cancellation
		assertStopped(t, dir, 0)
		if appeared(dir, "*.*new*") {
			t.Errorf("cut short at %s, the start left its folder", stage)
		}
	}
}
