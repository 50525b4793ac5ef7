//go:build unix

package main

import (
	"os"
	"os/signal"
	"strings"
	"syscall"
	"testing"
)

// hearHangUps makes sure that processes started from now on do not ignore
// hang-ups, as they do if these tests were started with nohup.
func hearHangUps(t *testing.T) {
	t.Helper()
	heard := make(chan os.Signal, 1)
	signal.Notify(heard, syscall.SIGHUP)
	t.Cleanup(func() { signal.Stop(heard) })
}

func TestHangUpMakesTheServiceReload(t *testing.T) {
	t.Parallel()
	hearHangUps(t)
	f := newFixture(t, 30, 40)
	path := f.write(t, f.yamlOf([]string{"acme"}, often))
	p := start(t, t.TempDir(), "--config", path)
	eventually(t, "the first run", func() bool { return strings.Contains(p.stderr.String(), `"msg":"run finished"`) })
	if err := os.WriteFile(path, []byte(f.yamlOf([]string{"acme", "globex"}, often)), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := p.cmd.Process.Signal(syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	eventually(t, "rows of globex", func() bool { return f.rows(t, "globex") == 40 })
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	r := p.end(t)
	if r.code != exitDone || len(r.plainLines()) > 0 {
		t.Errorf("exit code %d, stderr:\n%s", r.code, r.stderr)
	}
	assertContains(t, r.stderr, `"msg":"configuration reloaded"`, `"msg":"organization added","organization":"globex"`)
}

func TestHangUpEndsABackfill(t *testing.T) {
	t.Parallel()
	hearHangUps(t)
	f := newFixture(t, 30)
	arrived, blocked := f.block(t)
	defer blocked()
	p := start(t, t.TempDir(), "--backfill", "--config", f.config)
	<-arrived
	if err := p.cmd.Process.Signal(syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	if r := p.end(t); r.code != exitFailed {
		t.Errorf("exit code %d, stderr:\n%s", r.code, r.stderr)
	}
}
