//go:build look

package web_test

import (
	"net"
	"net/http"
	"os"
	"testing"
	"time"

	"polarmirror/internal/mirror"
	"polarmirror/internal/web"
)

// TestLook serves the page of a mirror with some weeks of history on the address
// in SYNCD_LOOK, until it is interrupted, for whoever works on the page:
//
//	SYNCD_LOOK=127.0.0.1:8081 go test -tags look ./internal/web/ -run TestLook -timeout 0
func TestLook(t *testing.T) {
	e := demoEnv(t)
	page, err := web.NewPage(web.PageOptions{Store: e.store, Settings: e.settings(), Walks: e.walks, Version: "dev"})
	if err != nil {
		t.Fatal(err)
	}
	defer page.Close()
	stop := e.serving(e.mirror(nil), mirror.Schedules{Incremental: every(t, "@every 5s"), Full: every(t, "@every 20s")})
	defer stop()
	go func() {
		for at := range time.Tick(2 * time.Second) {
			e.sim.Advance(at)
		}
	}()
	listener, err := net.Listen("tcp", os.Getenv("SYNCD_LOOK"))
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("look at http://%s", listener.Addr())
	t.Fatal(http.Serve(listener, page))
}
