package mirror

import (
	"fmt"
	"net/http"
	"testing"

	"github.com/google/go-cmp/cmp"

	"polarmirror/internal/polarsim"
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

func TestWalkCostsFewRequests(t *testing.T) {
	t.Parallel()
	w := small(t, 5000)
	w.backfill()
	if got, most := w.sim.RequestCount(), 5000*115/10000+3; got > most {
		t.Errorf("%d requests for 5,000 rows, want at most %d", got, most)
	}
	w.sim.ForgetRequests()
	w.backfill()
	if got := w.value(`SELECT concat_ws(' ', rows_inserted, rows_updated) FROM polar.sync_runs ORDER BY id DESC LIMIT 1`); got != "0 0" {
		t.Errorf("second walk inserted, updated = %s", got)
	}
}

func TestWalkThroughFaultsEndsExact(t *testing.T) {
	t.Parallel()
	w := small(t, 1500)
	for _, f := range []polarsim.Fault{polarsim.InternalError, polarsim.BadGateway, polarsim.Dropped, polarsim.CutBody, polarsim.Unavailable} {
		w.sim.FailRate(f, 0.05)
	}
	w.backfill()
	w.same()
}

func TestWalkSeesWhatExistsThroughoutWhileTheListShifts(t *testing.T) {
	t.Parallel()
	w := small(t, 3000)
	org := w.orgs[0].ID
	meters := w.sim.Meters(org)
	archived := false
	w.sim.Before(func(n int, _ *http.Request) {
		switch {
		case n%25 == 20:
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
