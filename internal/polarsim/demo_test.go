package polarsim

import (
	"cmp"
	"net/http"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	gocmp "github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
)

// demoAt is a demo of 300 rows at a time.
func demoAt(at time.Time) (*Demo, uuid.UUID) {
	d := NewDemo(Options{Seed: 3, Now: func() time.Time { return at },
		Organizations: []Organization{{Name: "a", CustomerMeters: 250}, {Name: "b", CustomerMeters: 50}}})
	return d, d.Organizations()[0].ID
}

func someDay() time.Time { return time.Date(2026, 9, 28, 13, 14, 15, 0, time.UTC) }

func TestDemoIsAFunctionOfTheClock(t *testing.T) {
	t.Parallel()
	lived, org := demoAt(someDay())
	before := len(lived.Snapshot(org))
	for step := range 60 { // through the end of a month
		lived.Advance(someDay().Add(time.Duration(step*step) * 15 * time.Minute))
	}
	end := someDay().Add(59 * 59 * 15 * time.Minute)
	made, _ := demoAt(end)
	for _, o := range made.Organizations() {
		if diff := gocmp.Diff(made.Snapshot(o.ID), lived.Snapshot(o.ID)); diff != "" {
			t.Errorf("%s (-made now +lived through it):\n%.3000s", o.Name, diff)
		}
	}
	if len(lived.Snapshot(org)) <= before {
		t.Error("nobody joined in a month")
	}
}

func TestRequestsMeetTheDemoAtThePresent(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		d := NewDemo(rows(300))
		c := &reader{server: d.Server, org: d.Organizations()[0], client: &http.Client{Transport: d.Transport()}, base: "http://polar.test"}
		for range 20 {
			time.Sleep(5 * time.Hour)
			if got := c.list(t, "limit=1"); len(got.Items) == 0 {
				t.Fatal("nothing is listed")
			}
			made, want := NewDemo(rows(300)), map[uuid.UUID]string{}
			for _, r := range made.Snapshot(c.org.ID) {
				want[r.ID] = r.JSON
			}
			for _, r := range d.Snapshot(c.org.ID) {
				if r.JSON != want[r.ID] {
					t.Fatalf("shows %s\nwant  %s", r.JSON, want[r.ID])
				}
			}
		}
	})
}

func TestPastIsWhatOneSawWhoLooked(t *testing.T) {
	t.Parallel()
	now := someDay().Truncate(6 * time.Hour)
	d, org := demoAt(now)
	last := map[uuid.UUID]State{}
	looked := map[time.Time][]State{}
	states := 0
	for s := range d.Past(org, now.Add(-45*24*time.Hour), now, 6*time.Hour) {
		if before, ok := last[s.CustomerMeterID]; ok && (!s.SeenAt.After(before.SeenAt) || !s.ModifiedAt.After(before.ModifiedAt)) {
			t.Fatalf("after %+v came %+v", before, s)
		}
		last[s.CustomerMeterID] = s
		looked[s.SeenAt] = append(looked[s.SeenAt], s)
		states++
	}
	present := d.Snapshot(org)
	for _, r := range present {
		if s := last[r.ID]; s.Units != r.Units || !s.ModifiedAt.Equal(r.ModifiedAt) {
			t.Errorf("%s is %+v, and the past ends with %+v", r.ID, r.Units, s)
		}
	}
	if len(last) != len(present) || states < 20*len(present) {
		t.Errorf("%d states of %d rows, want all %d rows and a past", states, len(last), len(present))
	}
	for _, days := range []int{3, 30, 45} { // the last one shows the rows that were there at the beginning
		at := now.Add(-time.Duration(days) * 24 * time.Hour)
		then, _ := demoAt(at)
		for _, s := range looked[at] {
			if r, _ := then.Find(s.CustomerMeterID); r.Units != s.Units || !r.ModifiedAt.Equal(s.ModifiedAt) {
				t.Errorf("%v ago %s was %+v, the past says %+v", now.Sub(at), r.ID, r.Units, s)
			}
		}
	}
}

func TestDemoIsBelievable(t *testing.T) {
	t.Parallel()
	d, org := demoAt(someDay())
	resets, purchases := 0, 0
	used := map[uuid.UUID]int{}
	var before State
	for s := range d.Past(org, someDay().Add(-45*24*time.Hour), someDay(), time.Minute) {
		if s.CustomerMeterID == before.CustomerMeterID {
			used[s.CustomerMeterID]++
			switch c, credits := number(s.Units.Consumed).Cmp(number(before.Units.Consumed)), number(s.Units.Credited).Cmp(number(before.Units.Credited)); {
			case c < 0 && s.SeenAt.Day() == 1:
				resets++
			case c < 0:
				t.Errorf("consumption goes down in the middle of a month: %+v, %+v", before, s)
			case credits > 0:
				purchases++
			}
		}
		before = s
	}
	rows := d.Snapshot(org)
	if resets < 50 || purchases < 50 || len(used) < len(rows)/2 || len(used) > 9*len(rows)/10 {
		t.Errorf("%d resets, %d purchases, %d of %d rows used", resets, purchases, len(used), len(rows))
	}
	busy := slices.SortedFunc(func(yield func(int) bool) {
		for _, n := range used {
			if !yield(n) {
				return
			}
		}
	}, cmp.Compare[int])
	if busy[len(busy)-1] < 20*busy[0] {
		t.Errorf("the rows changed %v times, want free and steady customers apart", busy)
	}
	long := 0
	for _, r := range rows {
		if len(r.Units.Consumed) > 25 && len(r.Units.Balance) > 25 && strings.Contains(r.JSON, r.Units.Consumed) {
			long++
		}
	}
	if long != 1 {
		t.Errorf("%d long decimals, want one", long)
	}
	// Two customers are about to run out whenever one looks: what they have is
	// used within two days.
	for hour := range 24 * 40 {
		at := someDay().Add(time.Duration(hour) * time.Hour)
		for _, c := range d.organizations[0].customers[:2] {
			h := d.habitOf(c.rows[0])
			u := h.usage(at)
			left := u.credited*h.meter.kind.scale() - u.consumed
			if left < 0 || left > 2*h.daily {
				t.Fatalf("at %v %d are left of %d a day", at, left, h.daily)
			}
		}
	}
}
