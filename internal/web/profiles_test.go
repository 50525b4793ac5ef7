package web

import (
	"context"
	"errors"
	"strings"
	"testing"

	"go.uber.org/zap"
)

func TestProfilesAreServedUntilTheEnd(t *testing.T) {
	t.Parallel()
	url, serve, err := ListenProfiles(t.Context(), ":0", zap.NewNop())
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	ended := make(chan error, 1)
	go func() { ended <- serve(ctx) }()
	if !strings.HasPrefix(url, "http://127.0.0.1:") {
		t.Errorf("listens at %s", url)
	}
	if response, body := get(t, url, "/goroutine?debug=1"); response.StatusCode != 200 || !strings.Contains(body, "goroutine profile") {
		t.Errorf("%d %.99q", response.StatusCode, body)
	}
	if response, _ := get(t, url, "/heap", host("evil.example")); response.StatusCode != 421 {
		t.Errorf("by a foreign name: %d", response.StatusCode)
	}
	var listen *ListenError
	if _, _, err := ListenProfiles(t.Context(), strings.Split(url, "/")[2], zap.NewNop()); !errors.As(err, &listen) || !strings.HasPrefix(err.Error(), "--pprof: 127.0.0.1:") {
		t.Errorf("an address in use: %v", err)
	}
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}
