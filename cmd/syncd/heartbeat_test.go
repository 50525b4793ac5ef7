package main

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"

	"polarmirror/internal/polarsim"
)

// A watchdog counts the heartbeats it gets.
func watchdog(t testing.TB) (url string, beats *atomic.Int64) {
	t.Helper()
	beats = &atomic.Int64{}
	s := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodGet && r.URL.Path == "/ping/"+canary {
			beats.Add(1)
		}
	}))
	t.Cleanup(s.Close)
	return s.URL + "/ping/" + canary, beats
}

func TestHeartbeatWhileEveryOrganizationSucceeds(t *testing.T) {
	t.Parallel()
	f := newFixture(t, 30, 40)
	url, beats := watchdog(t)
	s := serve(t, "--config", f.write(t, f.yaml(nil, `schedule: {incremental: "@every 1s"}`, `heartbeat_url: "`+url+`"`)))
	eventually(t, "three heartbeats", func() bool { return beats.Load() >= 3 })
	eventually(t, "their count", func() bool {
		_, body := s.get("/metrics", "")
		return strings.Contains(body, `syncd_heartbeats_total{outcome="sent"} `) && !strings.Contains(body, `syncd_heartbeats_total{outcome="sent"} 0`)
	})

	f.sim.SetToken(polarsim.Token{Secret: f.orgs[1].Token, NoScope: true})
	eventually(t, "a failure", func() bool {
		_, body := s.get("/metrics", "")
		return strings.Contains(body, `syncd_failing{organization="globex"} 1`)
	})
	before := beats.Load()
	ticks := func() int {
		return strings.Count(s.stderr.String(), `"msg":"run finished","organization":"acme"`)
	}
	from := ticks()
	eventually(t, "rounds of the other one", func() bool { return ticks() >= from+3 })
	// One may have been on its way when the failure showed.
	if got := beats.Load(); got > before+1 {
		t.Errorf("%d heartbeats while one organization fails", got-before)
	}
}

func TestHeartbeatOfABackfillOfAllOrganizations(t *testing.T) {
	t.Parallel()
	f := newFixture(t, 30, 40)
	url, beats := watchdog(t)
	path := f.write(t, f.yaml(nil, `heartbeat_url: "`+url+`"`))
	expect := func(want int64, code int, args ...string) {
		t.Helper()
		if r := call(t, nil, append(args, "--backfill", "--config", path)...); r.code != code || beats.Load() != want {
			t.Errorf("%v: exit code %d, %d heartbeats, want %d", args, r.code, beats.Load(), want)
		}
	}
	expect(1, exitDone)
	expect(1, exitDone, "--organization", "acme")
	f.sim.SetToken(polarsim.Token{Secret: f.orgs[1].Token, NoScope: true})
	expect(1, exitFailed)
}

func TestHeartbeatOfAServiceOfOneOrganizationIsOfAll(t *testing.T) {
	t.Parallel()
	f := newFixture(t, 30, 40)
	url, beats := watchdog(t)
	path := f.write(t, f.yaml(nil, `schedule: {incremental: "@every 1s"}`, `heartbeat_url: "`+url+`"`))
	s := serve(t, "--organization", "acme", "--config", path)
	eventually(t, "rounds of one organization", func() bool { return strings.Count(s.stderr.String(), `"msg":"run finished"`) >= 5 })
	if got := beats.Load(); got != 0 {
		t.Errorf("%d heartbeats, though nobody mirrors the other organization", got)
	}
	if r := call(t, nil, "--backfill", "--organization", "globex", "--config", path); r.code != exitDone {
		t.Fatal(r.stderr)
	}
	eventually(t, "a heartbeat", func() bool { return beats.Load() > 0 })
}
