package mirror

import (
	"fmt"
	"testing"
	"time"

	"github.com/robfig/cron/v3"
)

func TestReplicasComeToAnOrganizationOneAfterAnother(t *testing.T) {
	t.Parallel()
	slot := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	replicas := []spread{newSpread(), newSpread(), newSpread()}
	first := map[int]int{}
	for n := range 900 {
		organization := fmt.Sprintf("organization %d", n)
		winner, least := 0, time.Hour
		for i, r := range replicas {
			after := r.after(slot, every(time.Minute), organization)
			if after != r.after(slot.Add(time.Minute), every(time.Minute), organization) {
				t.Fatalf("the replica's moment moves from slot to slot: %v", after)
			}
			if after < 0 || after >= maxSpread {
				t.Fatalf("%v after the slot", after)
			}
			if after < least {
				winner, least = i, after
			}
		}
		first[winner]++
	}
	for i := range replicas {
		if n := first[i]; n < 200 || n > 400 {
			t.Errorf("replica %d comes first to %d of 900 organizations, want about a third", i, n)
		}
	}
}

func TestSpreadIsATenthOfAShortSchedule(t *testing.T) {
	t.Parallel()
	slot := time.Unix(1000, 0)
	for n := range 100 {
		if after := newSpread().after(slot, every(5*time.Second), fmt.Sprint(n)); after >= 500*time.Millisecond {
			t.Errorf("%v after a slot of a schedule of 5 s", after)
		}
	}
	if after := newSpread().after(slot, never{}, "x"); after >= maxSpread {
		t.Errorf("%v after the last slot of all", after)
	}
}

func TestSlotsBetweenTwoAreThoseOfTheSchedule(t *testing.T) {
	t.Parallel()
	schedule, err := cron.ParseStandard("CRON_TZ=UTC */10 * * * *")
	if err != nil {
		t.Fatal(err)
	}
	at := func(minute int) time.Time { return time.Date(2026, 3, 1, 12, minute, 0, 0, time.UTC) }
	if r := between(schedule, at(0), at(40)); r.count != 3 || !r.first.Equal(at(10)) || !r.last.Equal(at(30)) {
		t.Errorf("between 0 and 40: %+v", r)
	}
	for _, slot := range []time.Time{at(10), at(0), at(0).Add(-time.Hour)} {
		if r := between(schedule, at(0), slot); r.count > 0 {
			t.Errorf("between 0 and %v: %+v", slot, r)
		}
	}
	if r := between(every(time.Millisecond), at(0), at(40)); r.count != maxLoggedSlots {
		t.Errorf("%d slots counted one by one", r.count)
	}
}
