package main

import (
	"context"
	"io"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"polarmirror/internal/console"
	"polarmirror/internal/mirror"
)

func TestLongWalkIsLoggedWithItsTimeLeft(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		core, logs := observer.New(zap.InfoLevel)
		walks := console.NewScreen(io.Discard)
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		go func() { _ = logWalks(ctx, walks, zap.New(core)) }() // nil: it was told to end
		walks.Walking("acme", mirror.Position{Pages: 1, Rows: 100, Remaining: 900, Total: 1000, Left: -1})
		time.Sleep(logEvery + time.Second)
		walks.Walking("acme", mirror.Position{Pages: 2, Rows: 200, Remaining: 800, Total: 1000, Left: 90 * time.Second})
		time.Sleep(logEvery)
		walks.Walked("acme", mirror.Position{}, nil)
		time.Sleep(logEvery)
		var got []map[string]any
		for _, entry := range logs.All() {
			fields := entry.ContextMap()
			delete(fields, "rows_per_second")
			got = append(got, fields)
		}
		want := []map[string]any{
			{"organization": "acme", "pages": int64(1), "rows": int64(100), "remaining": int64(900)},
			{"organization": "acme", "pages": int64(2), "rows": int64(200), "remaining": int64(800), "time_left": 90 * time.Second},
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
	})
}
