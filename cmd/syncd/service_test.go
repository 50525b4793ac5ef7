package main

import (
	"context"
	"strings"
	"testing"
	"time"
)

func TestServiceKeepsTheMirrorCurrentUntilToldToStop(t *testing.T) {
	t.Parallel()
	f := newFixture(t, 250, 30)
	path := f.write(t, f.yaml(nil, `schedule: {incremental: "@every 1s", full: "@every 1h"}`))
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	served := make(chan result, 1)
	go func() { served <- callContext(ctx, t, nil, "--config", path) }()

	eventually(t, "the first walks", func() bool {
		return settled(t, path, "acme") && settled(t, path, "globex")
	})
	row := f.sim.Listed(f.orgs[0].ID)[0]
	changed, err := f.sim.Consume(row.ID, "12345.5")
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, "the change", func() bool {
		var got bool
		const sql = `SELECT consumed_units = $2::text::numeric FROM polar.customer_meters WHERE id = $1`
		err := f.db.Pool.QueryRow(t.Context(), sql, row.ID, changed.Units.Consumed).Scan(&got)
		return err == nil && got
	})
	stop()
	r := <-served
	if r.code != exitDone {
		t.Errorf("exit code %d", r.code)
	}
	for _, line := range r.plainLines() {
		t.Errorf("on stderr, not of the log: %s", line)
	}
	assertContains(t, r.stderr, `"msg":"serving"`, `"msg":"stopping"`)
}

// settled reports whether an organization has been mirrored.
func settled(t testing.TB, config, organization string) bool {
	t.Helper()
	list := readStatusJSON(t, call(t, nil, "status", "--json", "--config", config, "--organization", organization))
	return list[0]["last_success"] != nil
}

func TestServiceToldToStopWhileItStartsExits0(t *testing.T) {
	t.Parallel()
	f := newFixture(t, 30)
	ctx, stop := context.WithCancel(t.Context())
	stop()
	if r := callContext(ctx, t, nil, "--config", f.config); r.code != exitDone || len(r.plainLines()) > 0 {
		t.Errorf("exit code %d, stderr:\n%s", r.code, r.stderr)
	}
}

func TestLogFlagsOverrideTheConfiguration(t *testing.T) {
	t.Parallel()
	f := newFixture(t, 30)
	path := f.write(t, f.yaml(nil, "log: {level: error}"))
	if r := call(t, nil, "--backfill", "--config", path); r.stderr != "" {
		t.Errorf("at level error: %s", r.stderr)
	}
	loud := call(t, nil, "--backfill", "--config", path, "--log-level", "debug", "--log-format", "console")
	assertContains(t, loud.stderr, "DEBUG  block saved", "INFO  run finished")
	if strings.Contains(loud.stderr, `"level"`) {
		t.Errorf("not for people: %s", loud.stderr)
	}
}

// eventually waits for what must come.
func eventually(t testing.TB, what string, come func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); {
		if come() {
			return
		}
		time.Sleep(50 * time.Millisecond)
	}
	t.Fatalf("%s did not come", what)
}
