package web_test

import (
	"context"
	"encoding/base64"
	"fmt"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest"

	"polarmirror/internal/mirror"
	"polarmirror/internal/polar"
	"polarmirror/internal/polarsim"
	"polarmirror/internal/secret"
	"polarmirror/internal/store"
	"polarmirror/internal/web"
)

// patience is how long what must come may take on a busy machine.
const patience = 2 * time.Minute

// on makes a mirror work on a store of its own, as a newly started process has.
func on(st *store.Store) func(*mirror.Options) {
	return func(o *mirror.Options) { o.Store = st }
}

// secretOf is one that Polar generated, for globex, or an older one.
func secretOf(org polarsim.Organization) string {
	if generated(org) {
		return "whsec_" + base64.StdEncoding.EncodeToString([]byte("the key of "+org.Name))
	}
	return "polar_whs_" + org.Name + "_é_secret"
}

func generated(org polarsim.Organization) bool { return org.Name == "globex" }

// handler returns the endpoints of all organizations.
func (e *env) handler(inbox web.WebhookInbox, observe func(organization, outcome string)) http.Handler {
	o := web.WebhookOptions{Secrets: map[string]func() (secret.Secret, error){}, Inbox: inbox, Observe: observe, Log: zaptest.NewLogger(e, zaptest.Level(zap.FatalLevel))}
	for _, org := range e.orgs {
		o.Secrets[org.Name] = fixed(secretOf(org))
	}
	return web.NewWebhooks(o)
}

// listen serves the endpoints on a loopback port.
func (e *env) listen(handler http.Handler) string {
	server := httptest.NewServer(handler)
	e.Cleanup(server.Close)
	return server.URL
}

// send starts the simulated Polar's webhooks.
func (e *env) send(url string, change func(*polarsim.WebhookOptions)) *polarsim.Webhooks {
	e.Helper()
	o := polarsim.WebhookOptions{Seed: 5, FirstRetry: 20 * time.Millisecond}
	for _, org := range e.orgs {
		o.Endpoints = append(o.Endpoints, polarsim.WebhookEndpoint{OrganizationID: org.ID, URL: url + web.WebhookPath + org.Name, Secret: secretOf(org), Generated: generated(org)})
	}
	if change != nil {
		change(&o)
	}
	hooks := e.sim.StartWebhooks(o)
	e.Cleanup(hooks.Close)
	return hooks
}

// drain waits until everything has been delivered.
func (e *env) drain(hooks *polarsim.Webhooks) {
	e.Helper()
	ctx, cancel := context.WithTimeout(e.Context(), 5*patience)
	defer cancel()
	if err := hooks.Drain(ctx); err != nil {
		e.Fatal(err)
	}
}

// serve runs an inbox until the returned function is called or the test ends.
func (e *env) serve(inbox *mirror.Inbox) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	var serving sync.WaitGroup
	serving.Go(func() {
		if err := inbox.Serve(ctx); err != nil {
			e.Error(err)
		}
	})
	stop = sync.OnceFunc(func() {
		cancel()
		serving.Wait()
	})
	e.Cleanup(stop)
	return stop
}

// eventually waits for what must come.
func (e *env) eventually(what string, come func() bool) {
	e.Helper()
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); {
		if come() {
			return
		}
		time.Sleep(20 * time.Millisecond)
	}
	e.Fatalf("%s did not come; deliveries: %s", what, e.value(`SELECT string_agg(concat_ws(' ', status, n, error), ', ') FROM (SELECT status, error, count(*) AS n FROM polar.webhook_events GROUP BY 1, 2) AS t`))
}

// allApplied waits until no delivery is left to be applied.
func (e *env) allApplied() {
	e.Helper()
	e.eventually("the end of the inbox", func() bool {
		return e.value(`SELECT count(*)::text FROM polar.webhook_events WHERE status = 'pending'`) == "0"
	})
}

// same fails unless the mirror has exactly Polar's customer meters, in every
// digit and with every nested object.
func (e *env) same() {
	e.Helper()
	for _, org := range e.orgs {
		truth := e.sim.Snapshot(org.ID)
		ids := make([]uuid.UUID, len(truth))
		for i, r := range truth {
			ids[i] = r.ID
		}
		mirrored, err := e.store.Rows(e.Context(), ids)
		if err != nil {
			e.Fatal(err)
		}
		wrong := 0
		for _, r := range truth {
			if problem := compare(e, r, mirrored[r.ID]); problem != "" {
				if wrong++; wrong < 5 {
					e.Errorf("%s: customer meter %s: %s", org.Name, r.ID, problem)
				}
			}
		}
		if wrong > 0 {
			e.Errorf("%s: %d of %d customer meters are wrong", org.Name, wrong, len(truth))
		}
		live := e.value(`SELECT count(*)::text FROM polar.customer_meters WHERE organization_id = $1 AND deleted_at IS NULL AND out_of_scope_at IS NULL`, org.ID)
		if live != fmt.Sprint(len(truth)) {
			e.Errorf("%s: %s live rows, Polar has %d", org.Name, live, len(truth))
		}
	}
}

func compare(t testing.TB, want polarsim.Row, got *store.Row) string {
	t.Helper()
	if got == nil {
		return "missing"
	}
	m, rejected, err := polar.DecodeCustomerMeter([]byte(want.JSON))
	if err != nil || rejected != nil {
		t.Fatal(err, rejected)
	}
	if diff := polar.Diff(m, &got.CustomerMeter); len(diff) > 0 {
		return fmt.Sprintf("%+v", diff)
	}
	return ""
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}
