//go:build browser

package web_test

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"polarmirror/internal/mirror"
)

// TestScreenshots writes pictures of a mirror that has lived for some weeks to
// the folder in SYNCD_SHOTS.
func TestScreenshots(t *testing.T) {
	t.Parallel()
	folder := os.Getenv("SYNCD_SHOTS")
	if folder == "" {
		return // nobody wants any
	}
	browser := newBrowser(t)
	e := demoEnv(t)
	server := e.page()
	stop := e.serving(e.mirror(nil), mirror.Schedules{Incremental: every(t, "@every 1s")})
	for e.value(`SELECT min(n)::text FROM (SELECT count(*) FILTER (WHERE kind = 'incremental' AND status = 'succeeded') AS n FROM polar.sync_runs GROUP BY organization_id) c`) < "2" {
		e.sim.Advance(time.Now())
		time.Sleep(300 * time.Millisecond)
	}
	stop()
	g, finish := e.slowly(func(o *mirror.Options) { o.Organizations = o.Organizations[:1] })
	for range 45 {
		g.pass <- struct{}{}
	}
	complete(t, server, "/")
	for _, as := range []look{readme, readmeDark, desktop, desktopDark, phone, phoneDark} {
		r := newReader(t, browser, server.URL, as)
		r.open("/")
		r.wait(`document.querySelector("progress[value]") !== null && document.querySelector("[data-live-note]").textContent === "Kept up to date."`)
		whole := eval[parameters](r, `({x: 0, y: 0, width: innerWidth, height: document.documentElement.scrollHeight, scale: 1})`)
		for name, shot := range map[string]parameters{"": {}, "-whole": {"captureBeyondViewport": true, "clip": whole}} {
			picture := call[struct{ Data []byte }](r, "Page.captureScreenshot", shot).Data
			if err := os.WriteFile(filepath.Join(folder, "status-"+as.String()+name+".png"), picture, 0o644); err != nil {
				t.Fatal(err)
			}
		}
	}
	finish()
}
