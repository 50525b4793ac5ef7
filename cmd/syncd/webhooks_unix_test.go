//go:build unix

package main

import (
	"context"
	"math/rand/v2"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"polarmirror/internal/polarsim"
	"polarmirror/internal/web"
)

// TestKilledServiceLosesNoWebhook kills syncd with SIGKILL again and again while
// webhooks arrive, which are all that tells it of changes.
func TestKilledServiceLosesNoWebhook(t *testing.T) {
	t.Parallel()
	f := newFixture(t, 80)
	address := freeAddress(t)
	path := f.write(t, f.withSecret("webhook_secret: polar_whs_"+canary,
		`schedule: {incremental: "", full: ""}`, `http: {listen: "`+address+`"}`))
	if r := call(t, nil, "--backfill", "--config", path); r.code != exitDone {
		t.Fatal(r.stderr)
	}
	hooks := f.sim.StartWebhooks(polarsim.WebhookOptions{
		FirstRetry: 100 * time.Millisecond,
		Duplicates: 0.2,
		Endpoints:  []polarsim.WebhookEndpoint{{OrganizationID: f.orgs[0].ID, URL: "http://" + address + web.WebhookPath + "acme", Secret: "polar_whs_" + canary}},
	})
	defer hooks.Close()

	for range 2 {
		p := start(t, t.TempDir(), "--config", path)
		f.changeUntilDelivered(t, hooks, 10+rand.IntN(20))
		if err := p.cmd.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		_ = p.cmd.Wait() // it was killed
	}
	last := start(t, t.TempDir(), "--config", path)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if err := hooks.Drain(ctx); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the end of the inbox", func() bool {
		var pending int
		err := f.db.Pool.QueryRow(t.Context(), `SELECT count(*) FROM polar.webhook_events WHERE status = 'pending'`).Scan(&pending)
		return err == nil && pending == 0
	})
	if stats := hooks.Stats(); stats.GivenUp > 0 {
		t.Errorf("%+v", stats)
	}
	f.compareAll(t, f.orgs[0].ID)
	if err := last.cmd.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	if r := last.end(t); r.code != exitDone || strings.Contains(r.stdout+r.stderr, canary) {
		t.Errorf("exit code %d, stderr:\n%s", r.code, r.stderr)
	}
}

// changeUntilDelivered changes acme's customer meters until so many more
// webhooks have been taken.
func (f *fixture) changeUntilDelivered(t testing.TB, hooks *polarsim.Webhooks, more int) {
	t.Helper()
	rows := f.sim.Listed(f.orgs[0].ID)
	wanted := hooks.Stats().Delivered + more
	eventually(t, "deliveries", func() bool {
		if _, err := f.sim.Consume(rows[rand.IntN(len(rows))].ID, "0.125"); err != nil {
			t.Fatal(err)
		}
		return hooks.Stats().Delivered >= wanted
	})
}

// freeAddress is one that nobody listens at.
func freeAddress(t testing.TB) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	return listener.Addr().String()
}
