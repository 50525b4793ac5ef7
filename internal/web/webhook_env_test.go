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

	"polarmirror/internal/fetch"
	"polarmirror/internal/mirror"
	"polarmirror/internal/pgtest"
	"polarmirror/internal/polar"
	"polarmirror/internal/polarsim"
	"polarmirror/internal/secret"
	"polarmirror/internal/store"
	"polarmirror/internal/web"
)

// patience is how long what must come may take on a busy machine.
const patience = 2 * time.Minute

// A hookWorld is a simulated Polar, a mirror of it, and a place where webhooks
// arrive.
type hookWorld struct {
	testing.TB
	sim   *polarsim.Server
	store *store.Store
	db    *pgtest.Database
	orgs  []polarsim.Organization
	log   *zap.Logger
}

func newHookWorld(t testing.TB, organizations ...polarsim.Organization) *hookWorld {
	t.Helper()
	st, db := pgtest.NewStore(t)
	sim := polarsim.New(polarsim.Options{Seed: 11, Organizations: organizations})
	return &hookWorld{TB: t, sim: sim, store: st, db: db, orgs: sim.Organizations(), log: zaptest.NewLogger(t, zaptest.Level(zap.FatalLevel))}
}

// mirror returns a mirror on st, as a newly started process would have.
func (w *hookWorld) mirror(st *store.Store) *mirror.Mirror {
	w.Helper()
	opts := mirror.Options{Store: st, Log: w.log, Source: "sim"}
	for _, org := range w.orgs {
		client, err := fetch.New(fetch.Options{
			Organization: org.Name,
			BaseURL:      "https://polar.test",
			Token:        fetch.StaticToken(secret.New(org.Token)),
			Transport:    w.sim.Transport(),
			Retry:        fetch.Retry{InitialInterval: time.Millisecond, MaxInterval: 5 * time.Millisecond, MaxElapsedTime: 10 * time.Second},
		})
		if err != nil {
			w.Fatal(err)
		}
		opts.Organizations = append(opts.Organizations, mirror.Organization{Name: org.Name, ID: org.ID, Client: client})
	}
	m, err := mirror.New(opts)
	if err != nil {
		w.Fatal(err)
	}
	return m
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
func (w *hookWorld) handler(inbox web.WebhookInbox, observe func(string, web.WebhookOutcome)) http.Handler {
	o := web.WebhookOptions{Inbox: inbox, Observe: observe, Log: w.log}
	for _, org := range w.orgs {
		o.Endpoints = append(o.Endpoints, web.WebhookEndpoint{
			Organization: org.Name,
			Secret:       func() (secret.Secret, error) { return secret.New(secretOf(org)), nil },
		})
	}
	return web.NewWebhooks(o)
}

// listen serves the endpoints on a loopback port.
func (w *hookWorld) listen(handler http.Handler) string {
	server := httptest.NewServer(handler)
	w.Cleanup(server.Close)
	return server.URL
}

// send starts the simulated Polar's webhooks.
func (w *hookWorld) send(url string, change func(*polarsim.WebhookOptions)) *polarsim.Webhooks {
	w.Helper()
	o := polarsim.WebhookOptions{Seed: 5, InFlight: 8, FirstRetry: 20 * time.Millisecond}
	for _, org := range w.orgs {
		o.Endpoints = append(o.Endpoints, polarsim.WebhookEndpoint{OrganizationID: org.ID, URL: url + web.WebhookPath + org.Name, Secret: secretOf(org), Generated: generated(org)})
	}
	if change != nil {
		change(&o)
	}
	hooks, err := w.sim.StartWebhooks(o)
	if err != nil {
		w.Fatal(err)
	}
	w.Cleanup(func() {
		if err := hooks.Close(); err != nil {
			w.Error(err)
		}
	})
	return hooks
}

// drain waits until everything has been delivered.
func (w *hookWorld) drain(hooks *polarsim.Webhooks) {
	w.Helper()
	ctx, cancel := context.WithTimeout(w.Context(), 5*patience)
	defer cancel()
	if err := hooks.Drain(ctx); err != nil {
		w.Fatal(err)
	}
}

// serve runs an inbox until the returned function is called or the test ends.
func (w *hookWorld) serve(inbox *mirror.Inbox) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	var serving sync.WaitGroup
	serving.Go(func() {
		if err := inbox.Serve(ctx); err != nil {
			w.Error(err)
		}
	})
	stop = sync.OnceFunc(func() {
		cancel()
		serving.Wait()
	})
	w.Cleanup(stop)
	return stop
}

// eventually waits for what must come.
func (w *hookWorld) eventually(what string, come func() bool) {
	w.Helper()
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); {
		if come() {
			return
		}
		time.Sleep(2 * time.Millisecond)
	}
	w.Fatalf("%s did not come; deliveries: %s", what, w.value(`SELECT string_agg(concat_ws(' ', status, n, error), ', ') FROM (SELECT status, error, count(*) AS n FROM polar.webhook_events GROUP BY 1, 2) AS t`))
}

// settled waits until no delivery is left to be applied.
func (w *hookWorld) settled() {
	w.Helper()
	w.eventually("the end of the inbox", func() bool {
		return w.value(`SELECT count(*)::text FROM polar.webhook_events WHERE status = 'pending'`) == "0"
	})
}

// value runs a query that returns one value, as text.
func (w *hookWorld) value(sql string, args ...any) string {
	w.Helper()
	var text *string
	if err := w.db.Pool.QueryRow(w.Context(), sql, args...).Scan(&text); err != nil {
		w.Fatalf("%s: %v", sql, err)
	}
	if text == nil {
		return "null"
	}
	return *text
}

// same fails unless the mirror has exactly Polar's customer meters, in every
// digit and with every nested object.
func (w *hookWorld) same() {
	w.Helper()
	for _, org := range w.orgs {
		truth := w.sim.Snapshot(org.ID)
		ids := make([]uuid.UUID, len(truth))
		for i, r := range truth {
			ids[i] = r.ID
		}
		rows, err := w.store.Rows(w.Context(), ids)
		if err != nil {
			w.Fatal(err)
		}
		mirrored := make(map[uuid.UUID]*store.Row, len(rows))
		for i := range rows {
			mirrored[rows[i].ID] = &rows[i]
		}
		wrong := 0
		for _, r := range truth {
			if problem := compare(w, r, mirrored[r.ID]); problem != "" {
				if wrong++; wrong < 5 {
					w.Errorf("%s: customer meter %s: %s", org.Name, r.ID, problem)
				}
			}
		}
		if wrong > 0 {
			w.Errorf("%s: %d of %d customer meters are wrong", org.Name, wrong, len(truth))
		}
		live := w.value(`SELECT count(*)::text FROM polar.customer_meters WHERE organization_id = $1 AND deleted_at IS NULL AND out_of_scope_at IS NULL`, org.ID)
		if live != fmt.Sprint(len(truth)) {
			w.Errorf("%s: %s live rows, Polar has %d", org.Name, live, len(truth))
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
