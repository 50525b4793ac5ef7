package main

import (
	"context"
	"testing"
	"time"
)

func TestServiceToldToStopWhileItStartsExits0(t *testing.T) {
	t.Parallel()
	f := newWithoutDatabase(t, 30)
	ctx, stop := context.WithCancel(t.Context())
	stop()
	if r := callContext(ctx, t, nil, "--config", f.config); r.code != exitDone || len(r.plainLines()) > 0 {
		t.Errorf("exit code %d, stderr:\n%s", r.code, r.stderr)
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
