//go:build browser || look

package web_test

import (
	"context"
	"testing"

	"polarmirror/internal/mirror"
	"polarmirror/internal/polarsim"
)

// serving runs the mirror on schedules until the returned function is called.
func (w *world) serving(m *mirror.Mirror, schedules mirror.Schedules) (stop func()) {
	w.Helper()
	ctx, cancel := context.WithCancel(w.Context())
	done := make(chan error, 1)
	go func() { done <- m.Serve(ctx, schedules) }()
	return func() {
		cancel()
		if err := <-done; err != nil {
			w.Error(err)
		}
	}
}

// demoWorld is a mirror that has lived for some weeks.
func demoWorld(t testing.TB) *world {
	t.Helper()
	w := newWorld(t,
		polarsim.Organization{Name: "acme", CustomerMeters: 6000},
		polarsim.Organization{Name: "globex", CustomerMeters: 1500, Meters: 4},
		polarsim.Organization{Name: "initech", CustomerMeters: 60, Meters: 3},
	)
	w.liveDays(26, 9)
	return w
}
