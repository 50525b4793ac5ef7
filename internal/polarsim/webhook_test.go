package polarsim

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"
)

const hookSecret = "polar_whs_ünïcode"

// A receiver is where webhooks arrive, in memory.
type receiver struct {
	secret string          // as the library takes it; empty: hookSecret by the older rule
	answer func(n int) int // the status of the n-th request, counted from 1; nil: 202

	mu   sync.Mutex
	seen []seenDelivery
}

type seenDelivery struct {
	at      time.Time
	url, id string
	genuine bool
	body    []byte
}

func (r *receiver) RoundTrip(req *http.Request) (*http.Response, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	body, err := io.ReadAll(req.Body)
	if err != nil {
		return nil, err
	}
	// What Polar does with older secrets: the library decodes what was encoded for it.
	secret := base64.StdEncoding.EncodeToString([]byte(hookSecret))
	if r.secret != "" {
		secret = r.secret
	}
	library, err := standardwebhooks.NewWebhook(secret)
	if err != nil {
		return nil, err
	}
	r.seen = append(r.seen, seenDelivery{time.Now(), req.URL.String(), req.Header.Get("webhook-id"), library.Verify(body, req.Header) == nil, body})
	status := http.StatusAccepted
	if r.answer != nil {
		status = r.answer(len(r.seen))
	}
	header := http.Header{}
	if status/100 == 3 {
		header.Set("Location", "https://elsewhere.test/")
	}
	return &http.Response{StatusCode: status, Header: header, Body: http.NoBody, Request: req}, nil
}

// types are the types of the events seen, sorted.
func (r *receiver) types(t testing.TB) []string {
	t.Helper()
	var types []string
	for _, d := range r.seen {
		var event struct{ Type string }
		if err := json.Unmarshal(d.body, &event); err != nil {
			t.Fatal(err)
		}
		types = append(types, event.Type)
	}
	slices.Sort(types)
	return types
}

// hooked runs f with webhooks on the way to r, and waits until they are there.
func hooked(t *testing.T, r *receiver, change func(*WebhookOptions), f func(s *Server, org uuid.UUID)) WebhookStats {
	t.Helper()
	s := New(Options{Seed: 1, Organizations: []Organization{{Name: "a", CustomerMeters: 40}, {Name: "b", CustomerMeters: 10}}})
	o := WebhookOptions{Transport: r}
	for _, org := range s.Organizations() {
		o.Endpoints = append(o.Endpoints, WebhookEndpoint{OrganizationID: org.ID, URL: "https://hooks.test/" + org.Name, Secret: hookSecret})
	}
	if change != nil {
		change(&o)
	}
	hooks := s.StartWebhooks(o)
	defer hooks.Close()
	f(s, s.Organizations()[0].ID)
	if err := hooks.Drain(t.Context()); err != nil {
		t.Fatal(err)
	}
	return hooks.Stats()
}

func do[T any](t testing.TB) func(T, error) T {
	t.Helper()
	return func(v T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

func TestEachChangeIsToldOf(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := &receiver{}
		hooked(t, r, nil, func(s *Server, org uuid.UUID) {
			row := s.Listed(org)[0]
			do[Row](t)(s.Consume(row.ID, "1"))
			do[[]uuid.UUID](t)(s.RenameCustomer(row.CustomerID, "x"))
			do[[]uuid.UUID](t)(s.DeleteCustomer(row.CustomerID))
			do[Row](t)(s.AddCustomerMeter(org, NewCustomerMeter{}))
			do[int](t)(s.RenameMeter(row.MeterID, "told to nobody"))
		})
		want := []string{CustomerCreated, CustomerDeleted, CustomerStateChanged, CustomerStateChanged, CustomerStateChanged,
			CustomerStateChanged, CustomerStateChanged, CustomerUpdated}
		if diff := cmp.Diff(want, r.types(t)); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
		for _, d := range r.seen {
			if !d.genuine || d.url != "https://hooks.test/a" {
				t.Errorf("%s to %s is genuine: %v", d.id, d.url, d.genuine)
			}
		}
	})
}

// TestStateHasAllMetersOfTheCustomer also archived ones and those at zero.
func TestStateHasAllMetersOfTheCustomer(t *testing.T) {
	t.Parallel()
	s := New(Options{Seed: 1, Organizations: []Organization{{Name: "a", CustomerMeters: 60}}})
	org := s.Organizations()[0].ID
	do[int](t)(s.ArchiveMeter(s.Meters(org)[0].ID))
	want, got := map[uuid.UUID]bool{}, map[uuid.UUID]bool{}
	for _, r := range s.Snapshot(org) {
		want[r.ID] = true
		var event struct {
			Data struct {
				ActiveMeters []struct{ ID uuid.UUID } `json:"active_meters"`
			}
		}
		if err := json.Unmarshal(do[[]byte](t)(s.CustomerEvent(r.CustomerID, CustomerStateChanged)), &event); err != nil {
			t.Fatal(err)
		}
		for _, m := range event.Data.ActiveMeters {
			got[m.ID] = true
		}
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// TestGeneratedSecretsSignAsStandardWebhooksSays: the library takes such a secret
// as it is.
func TestGeneratedSecretsSignAsStandardWebhooksSays(t *testing.T) {
	t.Parallel()
	const generated = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD"
	synctest.Test(t, func(t *testing.T) {
		r := &receiver{secret: generated}
		hooked(t, r, func(o *WebhookOptions) { o.Endpoints[0].Secret, o.Endpoints[0].Generated = generated, true }, func(s *Server, org uuid.UUID) {
			do[Row](t)(s.Consume(s.Listed(org)[0].ID, "1"))
		})
		if len(r.seen) != 1 || !r.seen[0].genuine {
			t.Errorf("%+v", r.seen)
		}
	})
}

func TestDeliveryIsTriedTenTimesWithGrowingWaits(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := &receiver{answer: func(n int) int { return []int{500, 302, 403}[n%3] }}
		stats := hooked(t, r, nil, func(s *Server, org uuid.UUID) { do[Row](t)(s.Consume(s.Listed(org)[0].ID, "1")) })
		if len(r.seen) != 10 || stats.GivenUp != 1 || stats.Failed != 9 || stats.Delivered != 0 {
			t.Errorf("%d tries, %+v", len(r.seen), stats)
		}
		for i, d := range r.seen[1:] {
			if d.id != r.seen[0].id || !d.genuine {
				t.Errorf("try %d has id %s (genuine: %v), want %s signed anew", i+2, d.id, d.genuine, r.seen[0].id)
			}
			if got, want := d.at.Sub(r.seen[i].at), time.Second<<i; got != want {
				t.Errorf("%v before try %d, want %v", got, i+2, want)
			}
		}
	})
}

func TestUnkindDeliveriesComeAsAskedFor(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := &receiver{answer: func(int) int { return 202 }}
		stats := hooked(t, r, func(o *WebhookOptions) {
			o.Duplicates, o.Late, o.Forged, o.Stale, o.Astray, o.MaxDelay = 0.5, 0.5, 0.5, 0.5, 0.5, time.Minute
		}, func(s *Server, org uuid.UUID) {
			rows := s.Listed(org)
			for i := range 200 {
				do[Row](t)(s.Consume(rows[i%len(rows)].ID, "1"))
			}
		})
		ids := map[string]int{}
		astray, refused := 0, 0
		for _, d := range r.seen {
			ids[d.id]++
			if d.url != "https://hooks.test/a" {
				astray++
			}
			if !d.genuine {
				refused++
				if !strings.Contains(string(d.body), "666.5") || !strings.Contains(string(d.body), "Mallory") {
					t.Errorf("half a lie: %s", d.body)
				}
			}
		}
		if len(ids) == len(r.seen) || astray < 50 || refused < 100 || stats.Tricks != stats.TricksAccepted || stats.Tricks < astray+refused {
			t.Errorf("%d requests, %d ids, %d astray, %d not genuine, %+v", len(r.seen), len(ids), astray, refused, stats)
		}
	})
}

func TestWebhooksThatAreClosedForgetWhatWaits(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := New(Options{Seed: 1, Organizations: []Organization{{Name: "a", CustomerMeters: 4}}})
		org := s.Organizations()[0].ID
		hooks := s.StartWebhooks(WebhookOptions{Transport: &receiver{answer: func(int) int { return 500 }},
			Endpoints: []WebhookEndpoint{{OrganizationID: org, URL: "https://hooks.test/a", Secret: hookSecret}}})
		do[Row](t)(s.Consume(s.Listed(org)[0].ID, "1"))
		synctest.Wait()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second/2)
		defer cancel()
		if err := hooks.Drain(ctx); err == nil {
			t.Error("drained, although the receiver takes nothing")
		}
		hooks.Close()
		do[Row](t)(s.Consume(s.Listed(org)[0].ID, "1")) // told to nobody
		if stats := hooks.Stats(); stats.Pending != 1 {
			t.Errorf("%+v, want the one that waited", stats)
		}
	})
}
