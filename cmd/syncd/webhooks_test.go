package main

import (
	"context"
	"net/http"
	"net/http/httptest"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/zap"

	"polarmirror/internal/config"
	"polarmirror/internal/console"
	"polarmirror/internal/mirror"
	"polarmirror/internal/polarsim"
	"polarmirror/internal/web"
)

// withSecret is the configuration with a webhook secret for acme alone.
func (f *fixture) withSecret(line string, more ...string) string {
	return strings.Replace(f.yaml(nil, more...), "{name: acme,", "{name: acme, "+line+",", 1)
}

// kept is an inbox for any delivery.
type kept struct{}

func (kept) Receive(context.Context, mirror.Delivery) (fresh bool, err error) { return true, nil }

// TestConfiguredSecretsAreWhatDeliveriesAreCheckedWith whether they stand in the
// configuration or in a file, which may be replaced.
func TestConfiguredSecretsAreWhatDeliveriesAreCheckedWith(t *testing.T) {
	t.Parallel()
	for place, line := range map[string]string{
		"value": "webhook_secret: polar_whs_" + canary,
		"file":  "webhook_secret_file: " + strconv.Quote(writeFile(t, "secret", "polar_whs_"+canary+"\n")),
	} {
		text := minimal + "    " + line + "\n" + strings.NewReplacer("organizations:\n", "", "acme", "globex", "1dbf", "2dbf").Replace(minimal)
		cfg, err := config.Load(writeFile(t, "config.yaml", text), os.LookupEnv)
		if err != nil {
			t.Fatal(err)
		}
		if w := cfg.Warnings(); len(w) > 0 {
			t.Errorf("warnings %q", w)
		}
		handler := web.NewWebhooks(web.WebhookOptions{Secrets: webhookSecrets(cfg), Inbox: kept{}, Observe: func(string, string) {}, Log: zap.NewNop()})
		for organization, want := range map[string]int{"acme": 202, "globex": 403, "nobody": 403} {
			body := `{"type":"benefit.created","data":{}}`
			r := httptest.NewRequest(http.MethodPost, web.WebhookPath+organization, strings.NewReader(body))
			r.Header.Set("webhook-id", "msg_1")
			r.Header.Set("webhook-timestamp", strconv.FormatInt(time.Now().Unix(), 10))
			r.Header.Set("webhook-signature", polarsim.SignWebhook("polar_whs_"+canary, "msg_1", time.Now(), []byte(body)))
			got := httptest.NewRecorder()
			handler.ServeHTTP(got, r)
			if got.Code != want {
				t.Errorf("secret as %s: %s answers %d, want %d", place, organization, got.Code, want)
			}
		}
	}
}

func TestDemoSendsWebhooksThatAreGenuine(t *testing.T) {
	t.Parallel()
	p := &program{log: zap.NewNop(), screen: console.NewScreen(&buffer{})}
	t.Cleanup(func() {
		if err := p.close(context.Background()); err != nil {
			t.Error(err)
		}
	})
	cfg := demoConfig()
	d, err := p.openDemo(cfg)
	if err != nil {
		t.Fatal(err)
	}
	var accepted sync.Map // organizations
	server := httptest.NewServer(web.NewWebhooks(web.WebhookOptions{
		Secrets: webhookSecrets(cfg),
		Inbox:   kept{},
		Observe: func(organization, outcome string) {
			if outcome == web.WebhookAccepted {
				accepted.Store(organization, true)
			}
		},
		Log: p.log,
	}))
	t.Cleanup(server.Close)
	t.Cleanup(d.sendWebhooks(cfg, server.URL).Close)
	at := time.Now()
	for _, o := range cfg.Organizations {
		eventually(t, "a webhook of "+o.Name, func() bool {
			at = at.Add(10 * time.Minute)
			d.Advance(at)
			_, ok := accepted.Load(o.Name)
			return ok
		})
	}
}

func TestCheckSaysWhereWebhooksArrive(t *testing.T) {
	t.Parallel()
	f := newWithoutDatabase(t, 10, 10)
	check := func(more ...string) string {
		t.Helper()
		r := call(t, nil, "config", "check", "--offline", "--config", f.write(t, f.withSecret("webhook_secret: polar_whs_"+canary, more...)))
		if r.code != exitDone {
			t.Errorf("exit code %d: %s", r.code, r.stderr)
		}
		return r.stdout
	}
	assertContains(t, check(), "✓ webhooks: received on 127.0.0.1:0 at /webhooks/polar/acme; refused, for want of a webhook_secret: globex")
	assertContains(t, check(`http: {webhook_listen: "127.0.0.1:8081"}`), "✓ webhooks: received on 127.0.0.1:8081 at")
	assertContains(t, check(`http: {listen: ""}`), "! organization acme has a webhook secret, but http.listen and http.webhook_listen are empty")
	if r := call(t, nil, "config", "check", "--offline", "--config", f.config); strings.Contains(r.stdout, "webhook") {
		t.Errorf("without any secret: %s", r.stdout)
	}
}

// TestServiceReceivesWebhooksAndCountsThem while no schedule brings anything, and
// applies one left behind by a process that received it and died.
func TestServiceReceivesWebhooksAndCountsThem(t *testing.T) {
	t.Parallel()
	f := newFixture(t, 50, 10)
	path := f.write(t, f.withSecret("webhook_secret: polar_whs_"+canary,
		`schedule: {incremental: "", full: ""}`))
	if r := call(t, nil, "--backfill", "--config", path); r.code != exitDone {
		t.Fatal(r.stderr)
	}
	left := f.sim.Listed(f.orgs[0].ID)[8]
	leftChanged, err := f.sim.Consume(left.ID, "54321.5")
	if err != nil {
		t.Fatal(err)
	}
	body, err := f.sim.CustomerEvent(left.CustomerID, polarsim.CustomerStateChanged)
	if err != nil {
		t.Fatal(err)
	}
	const received = `
INSERT INTO polar.webhook_events (organization_id, customer_id, sent_at, next_attempt_at, webhook_id, type, status, payload)
VALUES ($1, $2, now(), now(), 'msg_1', 'customer.state_changed', 'pending', $3)`
	if _, err := f.db.Pool.Exec(t.Context(), received, f.orgs[0].ID, left.CustomerID, body); err != nil {
		t.Fatal(err)
	}
	s := serve(t, "--config", path)
	eventually(t, "the change left behind", func() bool { return f.consumed(t, left.ID) == leftChanged.Units.Consumed })
	hooks := f.sim.StartWebhooks(polarsim.WebhookOptions{Endpoints: []polarsim.WebhookEndpoint{
		{OrganizationID: f.orgs[0].ID, URL: s.url + web.WebhookPath + "acme", Secret: "polar_whs_" + canary},
		{OrganizationID: f.orgs[1].ID, URL: s.url + web.WebhookPath + "globex", Secret: "polar_whs_" + canary},
	}})
	defer hooks.Close()
	row := f.sim.Listed(f.orgs[0].ID)[7]
	changed, err := f.sim.Consume(row.ID, "12345.5")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.sim.Consume(f.sim.Listed(f.orgs[1].ID)[0].ID, "1"); err != nil { // globex has no secret
		t.Fatal(err)
	}
	eventually(t, "the change", func() bool { return f.consumed(t, row.ID) == changed.Units.Consumed })
	eventually(t, "the counts", func() bool {
		_, body := s.get("/metrics", "")
		return strings.Contains(body, `syncd_webhook_deliveries_total{organization="acme",outcome="accepted"} 1`) &&
			strings.Contains(body, `syncd_webhook_events_total{organization="acme",outcome="applied"} 2`) &&
			strings.Contains(body, `syncd_webhook_deliveries_total{organization="(other)",outcome="forged"} `)
	})
	if r := s.stop(); r.code != exitDone {
		t.Errorf("exit code %d: %s", r.code, r.stderr)
	}
}
