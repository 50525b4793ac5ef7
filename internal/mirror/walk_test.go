package mirror

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"

	"polarmirror/internal/fetch"
	"polarmirror/internal/polarsim"
	"polarmirror/internal/secret"
)

func TestBackfillEqualsTheSourceInEveryDigit(t *testing.T) {
	t.Parallel()
	for _, rows := range []int{0, 1, 99, 100, 101, 200, 1234} {
		t.Run(fmt.Sprint(rows), func(t *testing.T) {
			t.Parallel()
			w := small(t, rows)
			w.backfill()
			w.same()
			if diff := cmp.Diff([]string{"full succeeded true"}, w.runs()); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestWalkThroughFaultsEndsExact(t *testing.T) {
	t.Parallel()
	large(t)
	w := small(t, 1500)
	faults := []polarsim.Fault{polarsim.InternalError, polarsim.BadGateway, polarsim.Dropped, polarsim.CutBody, polarsim.Unavailable}
	w.sim.FailWhen(func(n int, _ *http.Request) polarsim.Fault {
		if i := n * 7 % 20; i < len(faults) { // each in one request of twenty
			return faults[i]
		}
		return polarsim.NoFault
	})
	w.backfill()
	w.same()
}

func TestWalkSeesWhatExistsThroughoutWhileTheListShifts(t *testing.T) {
	t.Parallel()
	w := small(t, rows(3000))
	org := w.orgs[0].ID
	meters := w.sim.Meters(org)
	archived := false
	w.sim.Before(func(n int, _ *http.Request) {
		switch {
		case n%10 == 8:
			if archived {
				must1(w.sim.UnarchiveMeter(meters[0].ID))
			} else {
				must1(w.sim.ArchiveMeter(meters[0].ID))
			}
			archived = !archived
		case n%3 == 0:
			must1(w.sim.AddCustomerMeter(org, polarsim.NewCustomerMeter{}))
		}
	})
	w.backfill()
	w.sim.Before(nil)
	got := w.mirrored(org)
	for id := range w.listed(org) {
		row, _ := w.sim.Find(mustID(id))
		throughout := row.MeterID != meters[0].ID && row.CreatedAt.Before(w.began(org))
		if _, there := got[id]; throughout && !there {
			t.Errorf("row %s existed throughout the walk and is missing", id)
		}
	}
	if !archived {
		must1(w.sim.ArchiveMeter(meters[0].ID))
	}
	w.backfill()
	w.same()
}

// TestForcedWalkAndSweepDoNotResumeEachOther: a cursor of one says nothing to the
// other, nor does an organization that the one has finished.
func TestForcedWalkAndSweepDoNotResumeEachOther(t *testing.T) {
	t.Parallel()
	walking := func(o *Options) { o.Walk, o.WalkedRows = true, 50 }
	small := func(o *Options) { o.BlockRows, o.PagesInFlight = 100, 1 }
	for name, options := range map[string][2]func(*Options){
		"full succeeded t walk":  {sweeping, walking},
		"full succeeded t sweep": {walking, sweeping},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := swept(t, 800)
			w.sim.ForgetRequests()
			w.sim.FailWhen(func(n int, _ *http.Request) polarsim.Fault {
				if n >= 8 {
					return polarsim.NotJSON
				}
				return polarsim.NoFault
			})
			if err := w.full(options[0], small); err == nil || w.value(`SELECT count(*)::text FROM polar.cursors`) != "1" {
				t.Fatalf("the first run ended with %v and left no cursor", err)
			}
			w.sim.FailWhen(nil)
			if err := w.full(options[1], small); err != nil {
				t.Fatal(err)
			}
			if got := w.lastRun(); got != name {
				t.Errorf("run %q", got)
			}
		})
	}
}

// TestBackfillResumedWithWalkWalksWhatWasSwept: a backfill that was cut short leaves
// out the organizations that it finished, unless they were not walked.
func TestBackfillResumedWithWalkWalksWhatWasSwept(t *testing.T) {
	t.Parallel()
	large(t)
	w := newEnv(t, polarsim.Options{Seed: 13, Organizations: []polarsim.Organization{{Name: "acme", CustomerMeters: 400, Meters: 4, EveryMeter: true}}})
	w.backfill(sweeping)
	w.exec(`UPDATE polar.backfills SET finished_at = NULL`)
	w.backfill(sweeping, func(o *Options) { o.Walk = true })
	if got := w.lastRun(); got != "full succeeded t walk" {
		t.Errorf("run %q", got)
	}
	w.exec(`UPDATE polar.backfills SET finished_at = NULL`)
	w.backfill(sweeping, func(o *Options) { o.Walk = true })
	if got := w.value(`SELECT count(*)::text FROM polar.sync_runs WHERE kind = 'full'`); got != "2" {
		t.Errorf("%s full runs, want 2: what was walked already is left out", got)
	}
}

// TestBackfillResumedWithAnotherFilterReadsWhatItLetsIn: of an organization that it
// finished under the old filter, too.
func TestBackfillResumedWithAnotherFilterReadsWhatItLetsIn(t *testing.T) {
	t.Parallel()
	w := small(t, 250)
	w.backfill(func(o *Options) { o.Organizations[0].Filter.MeterIDs = []uuid.UUID{w.sim.Meters(w.orgs[0].ID)[0].ID} })
	w.exec(`UPDATE polar.backfills SET finished_at = NULL`)
	w.backfill()
	w.same()
}

// smallBlocks makes runs save every page or two.
func smallBlocks(o *Options) { o.BlockRows, o.PagesInFlight = 100, 1 }

// cutShort makes a full run that fails at its sixth request, and leaves a cursor.
func (w *env) cutShort(changes ...func(*Options)) {
	w.Helper()
	w.sim.ForgetRequests()
	w.sim.FailWhen(func(n int, _ *http.Request) polarsim.Fault {
		if n >= 6 {
			return polarsim.NotJSON
		}
		return polarsim.NoFault
	})
	err := w.full(append(changes, smallBlocks)...)
	if err == nil || w.value(`SELECT count(*)::text FROM polar.cursors`) != "1" {
		w.Fatalf("the run ended with %v, or left no cursor", err)
	}
	w.sim.FailWhen(nil)
}

// TestFullRunIsNotResumedOnceOtherFieldsAreExcluded: customers that it has read would
// stay without a field that is taken off the list.
func TestFullRunIsNotResumedOnceOtherFieldsAreExcluded(t *testing.T) {
	t.Parallel()
	w := small(t, 900)
	w.cutShort(func(o *Options) {
		o.Exclude = []string{"name"}
		o.Organizations[0].Client = must1(fetch.New(fetch.Options{
			BaseURL: "https://polar.test", Token: fetch.StaticToken(secret.New(w.orgs[0].Token)), Exclude: o.Exclude, Transport: w.sim.Transport(),
			Retry: fetch.Retry{InitialInterval: time.Millisecond, MaxInterval: time.Millisecond},
		}))
	})
	if err := w.full(smallBlocks); err != nil {
		t.Fatal(err)
	}
	w.same()
}

// TestBackfillResumedReadsWhatChangedSince: of organizations that it has read already,
// and should it be stopped before that, when it is resumed again.
func TestBackfillResumedReadsWhatChangedSince(t *testing.T) {
	t.Parallel()
	w := small(t, 250)
	w.backfill()
	w.exec(`UPDATE polar.backfills SET finished_at = NULL`)
	must1(w.sim.Consume(w.sim.Listed(w.orgs[0].ID)[3].ID, "1"))
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	w.sim.Before(func(int, *http.Request) { cancel() })
	if err := w.mirror().Backfill(ctx); !errors.Is(err, ErrStopped) {
		t.Errorf("stopped: %v", err)
	}
	w.sim.Before(nil)
	w.backfill()
	w.same()
}
