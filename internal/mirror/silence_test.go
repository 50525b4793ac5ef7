package mirror

import (
	"fmt"
	"testing"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"polarmirror/internal/polar"
	"polarmirror/internal/polarsim"
)

// TestWebhooksAreSilentOnceAChangeStaysWithoutOne, and not because nothing changes,
// because a webhook is late, or because nobody could take it. Times are minutes ago.
func TestWebhooksAreSilentOnceAChangeStaysWithoutOne(t *testing.T) {
	t.Parallel()
	clock := 24 * 60
	w := newEnv(t, polarsim.Options{
		Seed:          7,
		Organizations: []polarsim.Organization{{Name: "acme", CustomerMeters: 60}},
		Now:           func() time.Time { return time.Now().Add(-time.Duration(clock) * time.Minute) },
	})
	w.backfill()
	rows := w.sim.Listed(w.orgs[0].ID)
	for i, tt := range []struct {
		what                  string
		changed, served, sent int // sent 0: no webhook arrives
		without               bool
		silent                bool
	}{
		{what: "no webhook", changed: 6, served: 60, silent: true},
		{what: "only one from before the change", changed: 6, served: 60, sent: 20, silent: true},
		{what: "no webhook yet", changed: 3, served: 60},
		{what: "its webhook, and then nothing for long", changed: 40, served: 60, sent: 40},
		{what: "a later webhook", changed: 40, served: 60, sent: 10},
		{what: "the service was not running", changed: 40, served: 20},
		{what: "no webhooks are configured", changed: 6, served: 60, without: true},
	} {
		w.exec(`UPDATE polar.organizations SET found_change_at = NULL`)
		w.exec(`DELETE FROM polar.webhook_events`)
		clock = tt.changed
		must1(w.sim.Consume(rows[i].ID, "1"))
		m := w.mirror(func(o *Options) { o.Organizations[0].Webhooks = !tt.without })
		m.serving = time.Now().Add(-time.Duration(tt.served) * time.Minute)
		if tt.sent > 0 {
			_, err := m.Inbox(InboxPoll).Receive(t.Context(), Delivery{
				Organization: "acme",
				ID:           fmt.Sprint(i),
				SentAt:       time.Now().Add(-time.Duration(tt.sent) * time.Minute).Truncate(time.Second),
				Body:         must1(w.sim.CustomerEvent(rows[i].CustomerID, polar.CustomerStateChanged)),
			})
			if err != nil {
				t.Fatal(err)
			}
		}
		if err := m.Backfill(t.Context()); err != nil {
			t.Fatal(err)
		}
		if got := w.value(`SELECT (webhooks_silent_since IS NOT NULL)::text FROM polar.sync_status`); got != fmt.Sprint(tt.silent) {
			t.Errorf("%s: silent %s, want %v", tt.what, got, tt.silent)
		}
	}
}

func TestLogTellsOfSilentWebhooksOnceAnHour(t *testing.T) {
	t.Parallel()
	w := small(t, 10)
	w.register()
	w.exec(`UPDATE polar.organizations SET found_change_at = now() - interval '6 minutes'`)
	core, logs := observer.New(zap.WarnLevel)
	m := w.mirror(func(o *Options) { o.Log, o.Organizations[0].Webhooks = zap.New(core), true })
	last := silence{}
	warned := func(want int) {
		t.Helper()
		if err := m.warnOfSilence(t.Context(), last); err != nil {
			t.Fatal(err)
		}
		if got := logs.FilterMessage("webhooks are silent").Len(); got != want {
			t.Errorf("%d warnings, want %d", got, want)
		}
	}
	warned(1)
	warned(1)
	last["acme"] = last["acme"].Add(-silenceInterval)
	warned(2)
	w.exec(`UPDATE polar.organizations SET found_change_at = NULL`)
	warned(2)
	w.exec(`UPDATE polar.organizations SET found_change_at = now() - interval '6 minutes'`)
	warned(3)

	m.opts.Organizations[0].Webhooks = false
	warned(3)
	if got := w.value(`SELECT found_change_at::text FROM polar.organizations`); got != "null" {
		t.Errorf("without webhooks, a change of %s is still remembered", got)
	}
}
