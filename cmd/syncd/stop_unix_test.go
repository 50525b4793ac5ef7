//go:build unix

package main

import (
	"net/http"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestServiceStoppedDuringAWalkExits0AndTheNextGoesOnThere stops the service at a
// request in the middle of the first load of 6,000 rows.
func TestServiceStoppedDuringAWalkExits0AndTheNextGoesOnThere(t *testing.T) {
	t.Parallel()
	f := newFixture(t, 6_000)
	middle := make(chan struct{})
	f.sim.Before(func(n int, _ *http.Request) {
		if n == 50 {
			close(middle)
		}
		time.Sleep(10 * time.Millisecond) // so that the walk is not over before the signal arrives
	})
	p := start(t, t.TempDir(), "--config", f.config)
	<-middle
	for range 2 { // at once, so they are one
		if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
			t.Fatal(err)
		}
	}
	r := p.end(t)
	if r.code != exitDone || len(r.plainLines()) > 0 {
		t.Fatalf("exit code %d, stderr:\n%s", r.code, r.stderr)
	}
	assertContains(t, r.stderr, `"msg":"stopping"`, `"msg":"run stopped"`)
	const state = `
SELECT concat_ws(' ', (SELECT string_agg(status, ',') FROM polar.sync_runs), (SELECT count(*) FROM polar.cursors), (SELECT count(*) > 1000 FROM polar.customer_meters))`
	if got := f.text(t, state); got != "abandoned 1 t" {
		t.Fatalf("runs, cursors, and whether there are rows: %s, want abandoned 1 t", got)
	}
	before := f.sim.RequestCount()
	f.sim.Before(nil)

	next := start(t, t.TempDir(), "--config", f.config)
	eventually(t, "the end of the walk", func() bool { return strings.Contains(next.stderr.String(), `"msg":"run finished"`) })
	if err := next.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if r := next.end(t); r.code != exitDone {
		t.Errorf("exit code %d, stderr:\n%s", r.code, r.stderr)
	}
	assertContains(t, next.stderr.String(), `"msg":"full run resumed"`)
	// A first load has about 100 requests; a block and the pages in flight are read again.
	if again := f.sim.RequestCount() - before; again > 85 {
		t.Errorf("%d requests after the stop: the walk did not go on where it was", again)
	}
	f.compareAll(t, f.orgs[0].ID)
}

// TestHangUpStopsLikeSIGTERM a service, which exits 0, and a backfill, which has
// not done its work.
func TestHangUpStopsLikeSIGTERM(t *testing.T) {
	t.Parallel()
	// Processes started from now on do not ignore SIGHUP, as they would if these
	// tests were started with nohup.
	heard := make(chan os.Signal, 1)
	signal.Notify(heard, syscall.SIGHUP)
	t.Cleanup(func() { signal.Stop(heard) })
	f := newFixture(t, 30)
	for _, tt := range []struct {
		args []string
		code int
		last string
	}{
		{nil, exitDone, `"msg":"run stopped"`},
		{[]string{"--backfill"}, exitFailed, "the next --backfill goes on from there"},
	} {
		arrived, release := f.block(t)
		t.Cleanup(release)
		p := start(t, t.TempDir(), append(tt.args, "--config", f.config)...)
		<-arrived
		if err := p.cmd.Process.Signal(syscall.SIGHUP); err != nil {
			t.Fatal(err)
		}
		r := p.end(t)
		if r.code != tt.code {
			t.Errorf("syncd %v: exit code %d, stderr:\n%s", tt.args, r.code, r.stderr)
		}
		assertContains(t, r.stderr, `"msg":"stopping"`, tt.last)
	}
}

// TestServiceThatCannotSaveExits0AllTheSame: Polar does not answer, and the
// database keeps the last words from being written.
func TestServiceThatCannotSaveExits0AllTheSame(t *testing.T) {
	t.Parallel()
	f := newFixture(t, 30)
	arrived, release := f.block(t)
	t.Cleanup(release)
	p := start(t, t.TempDir(), "--config", f.config)
	<-arrived
	tx, err := f.db.Pool.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer tx.Rollback(t.Context())
	if _, err := tx.Exec(t.Context(), `LOCK TABLE polar.sync_runs`); err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	r := p.end(t)
	if r.code != exitDone || len(r.plainLines()) > 0 {
		t.Errorf("exit code %d, stderr:\n%s", r.code, r.stderr)
	}
	t.Logf("ended after %v", time.Since(began).Round(time.Millisecond))
}
