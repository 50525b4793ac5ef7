package mirror

import (
	"context"
	"encoding/hex"
	"flag"
	"fmt"
	"math/rand/v2"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"

	"polarmirror/internal/pgtest"
	"polarmirror/internal/polarsim"
	"polarmirror/internal/store"
)

// sweeping makes full runs sweep, however few rows there are.
func sweeping(o *Options) { o.WalkedRows = 50 }

// full makes a full run of the first organization and returns its error.
func (w *env) full(changes ...func(*Options)) error {
	w.Helper()
	m := w.mirror(changes...)
	wk := m.worker(m.opts.Organizations[0])
	return wk.withSession(w.Context(), false, func(s *store.Session) error {
		return wk.full(w.Context(), s, fullOptions{kind: store.Full, archivedChecks: fewArchivedChecks})
	})
}

// lastRun is the last run: kind, status, method, requests.
func (w *env) lastRun() string {
	w.Helper()
	return w.value(`SELECT concat_ws(' ', kind, status, exact, method) FROM polar.sync_runs ORDER BY id DESC LIMIT 1`)
}

// costs logs and returns what Polar was asked for since the last call.
func (w *env) costs(what string) polarsim.Cost {
	w.Helper()
	c := w.sim.Cost()
	w.sim.ForgetRequests()
	w.Logf("%s: %d lists, %d gets, %d rows skipped, %v of statements", what, c.Lists, c.Gets, c.SkippedRows, c.Statements)
	return c
}

// TestSweepCostsFewRequestsAndSkipsFewRows: four meters are the usual case. With one a
// first load is a walk, and a set holds at most 75 rows; with twelve, sets are less
// full.
func TestSweepCostsFewRequestsAndSkipsFewRows(t *testing.T) {
	t.Parallel()
	large(t)
	const rows, walked = 2_400, 57e6 * 0.024 * 0.024 // which a walk from one end skips
	sweeps := func(o *Options) { o.WalkedRows = 2_000 }
	for _, tt := range []struct {
		meters                      int
		firstRequests, fullRequests float64 // a hundred rows, at most
		firstSkipped                float64 // of what is walked, at most, and each row once by the rank check
		method                      string  // of the first load
	}{
		{1, 1.15, 1.34, 0.45, "walk"},
		{4, 1.40, 1.09, 0.04, "sweep"},
		{12, 1.40, 1.21, 0.04, "sweep"},
	} {
		t.Run(fmt.Sprintf("%d meters", tt.meters), func(t *testing.T) {
			t.Parallel()
			w := newEnv(t, polarsim.Options{Seed: 13, Epoch: time.Now().UTC().Add(-24 * time.Hour),
				Organizations: []polarsim.Organization{{Name: "acme", CustomerMeters: rows, Meters: tt.meters, EveryMeter: true}}})
			check := func(what, run string, requests, skipped float64) {
				t.Helper()
				if got := w.lastRun(); got != run {
					t.Errorf("%s: run %q, want %q", what, got, run)
				}
				cost := w.costs(what)
				if got := float64(cost.Lists + cost.Gets); got > requests {
					t.Errorf("%s: %v requests, want at most %v", what, got, requests)
				}
				if got := float64(cost.SkippedRows); got > skipped {
					t.Errorf("%s: %v rows skipped, want at most %v", what, got, skipped)
				}
				w.same()
			}
			if err := w.full(sweeps); err != nil {
				t.Fatal(err)
			}
			check("first load", "full succeeded t "+tt.method, tt.firstRequests*rows/100+30, tt.firstSkipped*walked+rows)
			before := w.value(dataVersions)
			if err := w.full(sweeps); err != nil {
				t.Fatal(err)
			}
			check("full run", "full succeeded t sweep", tt.fullRequests*rows/100+16, rows) // once, by the rank check
			if w.value(dataVersions) != before {
				t.Error("a full run at rest wrote row versions")
			}
		})
	}
}

// swept is an env of one organization, of customers who have a row of each of
// four meters.
func swept(t testing.TB, rows int) *env {
	t.Helper()
	w := newEnv(t, polarsim.Options{Seed: 13, Epoch: time.Now().UTC().Add(-24 * time.Hour),
		Organizations: []polarsim.Organization{{Name: "acme", CustomerMeters: rows, Meters: 4, EveryMeter: true}}})
	if err := w.full(sweeping); err != nil {
		t.Fatal(err)
	}
	w.value(`UPDATE polar.customer_meters SET first_seen_at = first_seen_at - interval '1 hour' RETURNING 'old enough to be marked deleted'`)
	w.same()
	return w
}

// returnMeter brings an archived meter back, so many of whose rows changed in its absence.
func (w *env) returnMeter(meter uuid.UUID, changes int) {
	for _, row := range w.sim.Snapshot(w.orgs[0].ID) {
		if row.MeterID == meter && changes > 0 {
			must1(w.sim.Consume(row.ID, "1"))
			changes--
		}
	}
	must1(w.sim.UnarchiveMeter(meter))
}

func TestSweepFindsWhatNoKnownCustomerShows(t *testing.T) {
	t.Parallel()
	year := time.Now().UTC().Add(-365 * 24 * time.Hour)
	for name, change := range map[string]func(w *env){
		"forty unknown customers with old rows": func(w *env) {
			for i := range 40 {
				must1(w.sim.AddOldCustomer(w.orgs[0].ID, year.Add(time.Duration(i)*time.Hour), 4))
			}
		},
		"an unknown meter brought back from the archive": func(w *env) {
			meter := must1(w.sim.AddOldMeter(w.orgs[0].ID, "back", year, 30, 10)).ID
			must1(w.sim.ArchiveMeter(meter))
			w.returnMeter(meter, 5)
		},
		"a meter archived during the sweep": func(w *env) {
			w.sim.Before(func(n int, _ *http.Request) {
				if n == 10 {
					must1(w.sim.ArchiveMeter(w.sim.Meters(w.orgs[0].ID)[0].ID))
				}
			})
		},
		"a known meter brought back after changes": func(w *env) {
			meter := w.sim.Meters(w.orgs[0].ID)[1].ID
			must1(w.sim.ArchiveMeter(meter))
			if err := w.full(sweeping); err != nil {
				w.Fatal(err)
			}
			w.returnMeter(meter, 20)
		},
		"a known meter brought back during the sweep": func(w *env) {
			meter := w.sim.Meters(w.orgs[0].ID)[1].ID
			must1(w.sim.ArchiveMeter(meter))
			if err := w.full(sweeping); err != nil {
				w.Fatal(err)
			}
			w.sim.ForgetRequests()
			w.sim.Before(func(n int, _ *http.Request) {
				if n == 10 {
					w.returnMeter(meter, 20)
				}
			})
		},
		"every customer renamed": func(w *env) {
			for _, c := range w.sim.Customers(w.orgs[0].ID) {
				must1(w.sim.RenameCustomer(c.ID, "renamed "+c.ID.String()))
			}
		},
		"a twentieth of the rows deleted": func(w *env) {
			for i, row := range w.sim.Listed(w.orgs[0].ID) {
				if i%20 == 0 {
					must1(w.sim.DeleteCustomerMeter(row.ID))
				}
			}
		},
		"a row that get returns and no list shows": func(w *env) {
			must1(w.sim.SetUnlisted(w.sim.Listed(w.orgs[0].ID)[7].ID, true))
		},
		"a row that cannot be mirrored": func(w *env) {
			row := w.sim.Listed(w.orgs[0].ID)[33]
			must1(w.sim.SetRaw(row.ID, strings.Replace(row.JSON, `"balance":`, `"balance":"x","b":`, 1)))
		},
		"a customer with more rows than a page": func(w *env) {
			must1(w.sim.AddOldCustomer(w.orgs[0].ID, year, 230))
		},
		"a row that was never mirrored": func(w *env) {
			row := must1(w.sim.AddOldCustomer(w.orgs[0].ID, year, 1))[0]
			row = must2(w.sim.Find(row.ID))
			must1(w.sim.SetRaw(row.ID, strings.Replace(row.JSON, `"balance":`, `"balance":"x","b":`, 1)))
		},
		"a row that Postgres refuses, never mirrored": func(w *env) {
			row := must2(w.sim.Find(must1(w.sim.AddOldCustomer(w.orgs[0].ID, year, 1))[0].ID))
			noise := make([]byte, 16<<10) // which no index takes
			_, _ = rand.NewChaCha8([32]byte{}).Read(noise)
			must1(w.sim.SetRaw(row.ID, strings.Replace(row.JSON, `"external_id":`, `"external_id":"`+hex.EncodeToString(noise)+`","x":`, 1)))
		},
		"a row that is too young to be marked deleted": func(w *env) {
			w.exec(`UPDATE polar.customer_meters SET first_seen_at = now()`)
			must1(w.sim.DeleteCustomerMeter(w.sim.Listed(w.orgs[0].ID)[7].ID))
		},
		"transactions that commit late": func(w *env) {
			for i, row := range w.sim.Listed(w.orgs[0].ID) {
				if i%50 == 0 {
					must1(w.sim.ConsumeLate(row.ID, "1", time.Now().Add(-5*time.Hour)))
				}
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if !strings.Contains(name, "unknown") && !strings.Contains(name, "during") {
				large(t)
			}
			rows := 400
			if strings.Contains(name, "during") { // so many that it is not over by then
				rows = 1200
			}
			w := swept(t, rows)
			w.sim.ForgetRequests()
			change(w)
			const versions = `SELECT md5(string_agg(id::text || xmin::text || ctid::text, ' ' ORDER BY id)) FROM polar.customer_meters`
			before := w.value(versions)
			inTurn := func(o *Options) { // what happens during the sweep then does so at the same place each time
				if strings.Contains(name, "during") {
					o.PagesInFlight = 1
				}
			}
			if err := w.full(sweeping, inTurn); err != nil {
				t.Fatal(err)
			}
			w.sim.Before(nil)
			if name == "every customer renamed" && w.value(versions) != before {
				t.Error("customer meters were written that had not changed")
			}
			want := "full succeeded t sweep"
			if strings.Contains(name, "mirrored") {
				want = "full succeeded f"
			}
			if got := w.lastRun(); got != want {
				t.Errorf("run %q, want %q", got, want)
			}
			w.costs(name)
			if !strings.HasPrefix(name, "a row that") {
				w.same()
			}
			if name == "a customer with more rows than a page" {
				if err := w.full(sweeping); err != nil {
					t.Fatal(err)
				}
				if cost := w.costs(name + ", again"); cost.Gets > 0 {
					t.Errorf("%d rows of a customer that is known were asked for by themselves", cost.Gets)
				}
			}
		})
	}
}

// TestSweepMarksNothingDeletedWhenTheTokenOrTheNetworkFails: each ends with one error
// that says what to do, wherever in the sweep it happens.
func TestSweepMarksNothingDeletedWhenTheTokenOrTheNetworkFails(t *testing.T) {
	t.Parallel()
	everywhere := []int{1, 4, 7} // in the sweep, among the new rows and suspects
	if testing.Short() {
		everywhere = []int{4}
	}
	rankPage := func(r *http.Request) bool {
		q := r.URL.Query()
		return q.Get("sorting") == "created_at" && q.Get("customer_id") == ""
	}
	for name, tt := range map[string]struct {
		fault func(w *env, after, n int, r *http.Request) polarsim.Fault
		after []int // requests
		want  string
	}{
		"a token that loses its organization": {
			func(_ *env, after, n int, _ *http.Request) polarsim.Fault {
				if n > after {
					return polarsim.LostOrganization
				}
				return polarsim.NoFault
			},
			everywhere, "token",
		},
		"a revoked token": {
			func(w *env, after, n int, _ *http.Request) polarsim.Fault {
				w.sim.SetToken(polarsim.Token{Secret: w.orgs[0].Token, Organizations: []uuid.UUID{w.orgs[0].ID}, Expired: n > after})
				return polarsim.NoFault
			},
			everywhere, "token",
		},
		"answers cut off during the rank check": {
			func(_ *env, _, _ int, r *http.Request) polarsim.Fault {
				if rankPage(r) {
					return polarsim.CutBody
				}
				return polarsim.NoFault
			},
			[]int{0}, "customer meters",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := swept(t, 400)
			var gone []uuid.UUID
			for _, after := range tt.after {
				gone = append(gone, w.sim.Listed(w.orgs[0].ID)[3].ID) // something to ask for
				must1(w.sim.DeleteCustomerMeter(gone[len(gone)-1]))
				w.sim.ForgetRequests()
				w.sim.FailWhen(func(n int, r *http.Request) polarsim.Fault { return tt.fault(w, after, n, r) })
				err := w.full(sweeping, func(o *Options) { o.Organizations[0].Client = w.clientWith(w.orgs[0].Token) })
				if err == nil || !strings.Contains(err.Error(), tt.want) || strings.Contains(err.Error(), "\n") {
					t.Errorf("after %d requests: got %v, want one error about %q", after, err, tt.want)
				}
				if got := w.value(`SELECT count(*)::text FROM polar.customer_meters WHERE deleted_at IS NOT NULL AND id <> ALL ($1)`, gone); got != "0" {
					t.Errorf("after %d requests: %s rows are marked deleted that Polar has", after, got)
				}
				w.sim.FailWhen(nil)
				w.sim.SetToken(polarsim.Token{Secret: w.orgs[0].Token, Organizations: []uuid.UUID{w.orgs[0].ID}})
				if err := w.full(sweeping); err != nil {
					t.Fatal(err)
				}
				w.same()
			}
		})
	}
}

// TestSweepKilledAgainAndAgainGoesOnWhereItWas kills the connection that holds the
// lock, and the run with it, at random requests of a first load and of a full run.
func TestSweepKilledAgainAndAgainGoesOnWhereItWas(t *testing.T) {
	t.Parallel()
	w := newEnv(t, polarsim.Options{Seed: 13, Epoch: time.Now().UTC().Add(-24 * time.Hour),
		Organizations: []polarsim.Organization{{Name: "acme", CustomerMeters: rows(1600), Meters: 4, EveryMeter: true}}})
	small := func(o *Options) { o.WalkedRows, o.BlockRows = 50, 100 }
	for _, what := range []string{"first load", "full run"} {
		w.sim.ForgetRequests()
		if err := w.full(small); what == "full run" && err != nil {
			t.Fatal(err)
		}
		undisturbed := w.costs(what).Lists
		if what == "first load" { // again, from nothing
			w.exec(`TRUNCATE polar.customer_meters, polar.customer_meter_history, polar.customers, polar.meters CASCADE`)
		}
		kills, requests := 0, 0
		for done := false; !done; {
			ctx, cancel := context.WithCancelCause(t.Context())
			at := 1 + rand.IntN(*killEvery)
			w.sim.ForgetRequests()
			w.sim.Before(func(n int, _ *http.Request) {
				if n == at {
					w.db.Disconnect(w, pgtest.LockHolders)
					cancel(errCrash)
				}
			})
			m := w.mirror(small)
			wk := m.worker(m.opts.Organizations[0])
			err := wk.withSession(ctx, true, func(s *store.Session) error {
				return wk.full(ctx, s, fullOptions{kind: store.Full})
			})
			requests += w.sim.RequestCount()
			if done = err == nil; !done {
				kills++
			}
			cancel(nil)
		}
		w.sim.Before(nil)
		w.same()
		// For each kill: the block that was being saved, the one being gathered, the
		// pages in flight, and what every start asks for.
		const perKill = 2*(100/80+1) + 2*4 + 6
		t.Logf("%s: %d kills, %d requests, %d without kills", what, kills, requests, undisturbed)
		if most := undisturbed + kills*perKill; requests > most {
			t.Errorf("%s: %d requests with %d kills, want at most %d", what, requests, kills, most)
		}
	}
}

var killEvery = flag.Int("sweep.kill", 18, "requests until a sweep is killed, at most")

var (
	growingRows = flag.Int("growing.rows", 5200, "rows of the organization that grows")
	growingRuns = flag.Int("growing.runs", 2, "full runs of it")
)

// TestSweepOfAGrowingOrganizationIsExact: rows are created and changed with every
// request, as many a request as 5 new rows and 20 changes a second are at 500 requests
// a minute, and now and then many at once. Every run proves by rank what it saw.
func TestSweepOfAGrowingOrganizationIsExact(t *testing.T) {
	t.Parallel()
	large(t)
	var offset atomic.Int64 // of Polar's clock, which a request moves by what the limit dictates
	w := newEnv(t, polarsim.Options{Seed: 13, Epoch: time.Now().UTC().Add(-24 * time.Hour),
		Now:           func() time.Time { return time.Now().Add(time.Duration(offset.Load())) },
		Organizations: []polarsim.Organization{{Name: "acme", CustomerMeters: *growingRows, Meters: 5, EveryMeter: true}}})
	org := w.orgs[0].ID
	if err := w.full(); err != nil {
		t.Fatal(err)
	}
	chance := rand.New(rand.NewPCG(1, 2))
	rows := w.sim.Listed(org)
	var mu sync.Mutex
	w.sim.Before(func(n int, _ *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		offset.Add(int64(time.Minute / 500))
		for range 2 + n%5%2 { // 2.4 a request
			must1(w.sim.Consume(rows[chance.IntN(len(rows))].ID, "0.1"))
		}
		if n%9 == 0 { // a customer of five rows
			must1(w.sim.AddOldCustomer(org, time.Now().Add(time.Duration(offset.Load())), 5))
		}
		if n%20 == 0 {
			must1(w.sim.AddCustomerMeter(org, polarsim.NewCustomerMeter{}))
		}
		if n%(*growingRows/115) == 30 { // once a run
			for range *growingRows * 3 / 100 {
				must1(w.sim.AddCustomerMeter(org, polarsim.NewCustomerMeter{}))
			}
		}
	})
	exact := 0
	for range *growingRuns {
		w.sim.ForgetRequests()
		if err := w.full(); err != nil {
			t.Log(err)
		}
		if got := w.lastRun(); got == "full succeeded t sweep" {
			exact++
		}
		w.costs(w.lastRun())
	}
	if t.Logf("%d of %d runs were exact", exact, *growingRuns); exact < *growingRuns*19/20 {
		t.Errorf("%d of %d runs were exact", exact, *growingRuns)
	}
	w.sim.Before(nil)
	if err := w.full(); err != nil {
		t.Fatal(err)
	}
	w.same()
}

// TestSweepCountsARowWhoseIDIsNotUsable: Polar lists it and shows it to a get, and the
// mirror has it under the id that it had.
func TestSweepCountsARowWhoseIDIsNotUsable(t *testing.T) {
	t.Parallel()
	w := small(t, 400)
	w.backfill(sweeping)
	w.agedRows()
	row := w.sim.Listed(w.orgs[0].ID)[200]
	must1(w.sim.SetRaw(row.ID, strings.Replace(row.JSON, `"id":"`+row.ID.String()+`"`, `"id":null`, 1)))
	for range 2 {
		if err := w.full(sweeping); err != nil {
			t.Fatal(err)
		}
		if got := w.lastRun(); got != "full succeeded f" {
			t.Errorf("run %q", got)
		}
	}
}
