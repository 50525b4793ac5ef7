//go:build browser || look

package web_test

import (
	"context"
	"testing"

	"polarmirror/internal/mirror"
	"polarmirror/internal/polarsim"
)

// serving runs the mirror on schedules until the returned function is called.
func (e *env) serving(m *mirror.Mirror, schedules mirror.Schedules) (stop func()) {
	e.Helper()
	ctx, cancel := context.WithCancel(e.Context())
	done := make(chan error, 1)
	go func() { done <- m.Serve(ctx, schedules) }()
	return func() {
		cancel()
		if err := <-done; err != nil {
			e.Error(err)
		}
	}
}

// demoEnv is a mirror that has lived for some weeks.
func demoEnv(t testing.TB) *env {
	t.Helper()
	e := newEnv(t,
		polarsim.Organization{Name: "acme", CustomerMeters: 6000},
		polarsim.Organization{Name: "globex", CustomerMeters: 1500, Meters: 4},
		polarsim.Organization{Name: "initech", CustomerMeters: 60, Meters: 3},
	)
	e.backfill()
	e.addHistory(26)
	return e
}
