package mirror

import (
	"testing"
	"time"

	"github.com/robfig/cron/v3"
)

func TestReplicasComeToAnOrganizationAtMomentsOfTheirOwn(t *testing.T) {
	t.Parallel()
	slot := time.Unix(1000, 0)
	moments := map[time.Duration]bool{}
	for range 100 {
		s := newScheduler(&worker{}, nil, Schedules{Incremental: every(time.Minute), Full: every(5 * time.Second)})
		after := func(t *timetable, slot time.Time) time.Duration {
			t.next = slot
			return t.comesAt().Sub(slot)
		}
		tick := after(s.incremental, slot)
		if tick != after(s.incremental, slot.Add(time.Minute)) || tick < 0 || tick >= maxSpread {
			t.Errorf("%v after the slot, or another time after the next", tick)
		}
		if full := after(s.full, slot); full >= 500*time.Millisecond {
			t.Errorf("%v after a slot of a schedule of 5 s", full)
		}
		s.full.schedule = never{}
		if last := after(s.full, slot); last >= maxSpread {
			t.Errorf("%v after the last slot of all", last)
		}
		moments[tick] = true
	}
	if len(moments) < 50 {
		t.Errorf("100 replicas come at %d moments", len(moments))
	}
}

func TestSlotsBetweenTwoAreThoseOfTheSchedule(t *testing.T) {
	t.Parallel()
	schedule, err := cron.ParseStandard("CRON_TZ=UTC */10 * * * *")
	if err != nil {
		t.Fatal(err)
	}
	at := func(minute int) time.Time { return time.Date(2026, 3, 1, 12, minute, 0, 0, time.UTC) }
	if first, last, count := between(schedule, at(0), at(40)); count != 3 || !first.Equal(at(10)) || !last.Equal(at(30)) {
		t.Errorf("between 0 and 40: %d from %v to %v", count, first, last)
	}
	for _, slot := range []time.Time{at(10), at(0), at(0).Add(-time.Hour)} {
		if _, _, count := between(schedule, at(0), slot); count > 0 {
			t.Errorf("between 0 and %v: %d", slot, count)
		}
	}
	if _, _, count := between(every(time.Millisecond), at(0), at(40)); count != maxLoggedSlots {
		t.Errorf("%d slots counted one by one", count)
	}
}
