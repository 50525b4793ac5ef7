package config

import (
	"testing"
	"time"

	"github.com/robfig/cron/v3"
	"pgregory.net/rapid"
)

// next returns the first time of expression in zone after start.
func next(t *testing.T, expression Cron, zone, start string) string {
	t.Helper()
	location, err := time.LoadLocation(zone)
	if err != nil {
		t.Fatal(err)
	}
	after, err := time.Parse(time.RFC3339Nano, start)
	if err != nil {
		t.Fatal(err)
	}
	schedule, err := expression.In(location)
	if err != nil {
		t.Fatalf("%q: %v", expression, err)
	}
	at := schedule.Next(after)
	if at.IsZero() {
		return ""
	}
	return at.UTC().Format(time.RFC3339)
}

func TestCronFiresInItsTimeZone(t *testing.T) {
	t.Parallel()
	tests := []struct {
		expression        Cron
		zone, after, want string
	}{
		{"", "UTC", "2026-08-01T00:00:00Z", ""},
		{"17 * * * *", "UTC", "2026-08-01T00:17:00Z", "2026-08-01T01:17:00Z"},
		{"0 3 * * *", "Europe/Berlin", "2026-08-01T00:00:00Z", "2026-08-01T01:00:00Z"},
		{"0 3 * * *", "Europe/Berlin", "2026-12-01T00:00:00Z", "2026-12-01T02:00:00Z"},
		{"@daily", "Asia/Tokyo", "2026-08-01T00:00:00Z", "2026-08-01T15:00:00Z"},
		{"0 0 29 2 *", "UTC", "2026-08-01T00:00:00Z", "2028-02-29T00:00:00Z"},
		{"  @hourly ", "UTC", "2026-08-01T00:00:00Z", "2026-08-01T01:00:00Z"},
		// The clocks skip 02:00 to 03:00, and repeat it.
		{"30 2 * * *", "Europe/Berlin", "2027-03-27T01:30:00Z", "2027-03-29T00:30:00Z"},
		{"30 2 * * *", "Europe/Berlin", "2027-10-31T00:30:00Z", "2027-10-31T01:30:00Z"},
		{"17 * * * *", "Europe/Berlin", "2027-03-28T00:17:00Z", "2027-03-28T01:17:00Z"},
		// A day without midnight has a noon.
		{"0 0 * * *", "Asia/Beirut", "2027-03-26T22:00:00Z", "2027-03-28T21:00:00Z"},
		{"0 12 * * SUN", "Asia/Beirut", "2027-03-21T10:00:00Z", "2027-03-28T09:00:00Z"},
		{"0 12 28 * *", "Asia/Beirut", "2027-02-28T10:00:00Z", "2027-03-28T09:00:00Z"},
		{"0 12 * * FRI", "Africa/Cairo", "2027-04-23T10:00:00Z", "2027-04-30T09:00:00Z"},
		{"@every 30s", "UTC", "2026-08-01T00:00:00.5Z", "2026-08-01T00:00:30Z"},
		{"@every 30s", "Asia/Kathmandu", "2026-08-01T00:00:30Z", "2026-08-01T00:01:00Z"},
		{"@every 1h30m", "UTC", "1969-12-31T23:59:59.5Z", "1970-01-01T00:00:00Z"},
	}
	for _, tt := range tests {
		if got := next(t, tt.expression, tt.zone, tt.after); got != tt.want {
			t.Errorf("%q in %s after %s: %s, want %s", tt.expression, tt.zone, tt.after, got, tt.want)
		}
	}
}

// Replicas start at different moments and must agree on every slot.
func TestEveryFiresAtMultiplesOfTheEpochWheneverItStarts(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		seconds := rapid.Int64Range(1, 100_000).Draw(t, "seconds")
		start := time.Unix(rapid.Int64Range(-1e9, 4e9).Draw(t, "unix"), rapid.Int64Range(0, 999_999_999).Draw(t, "nanoseconds"))
		schedule, err := Cron("@every " + (time.Duration(seconds) * time.Second).String()).In(time.UTC)
		if err != nil {
			t.Fatal(err)
		}
		got := schedule.Next(start)
		if got.Unix()%seconds != 0 || got.Nanosecond() != 0 {
			t.Fatalf("%v is no multiple of %ds", got, seconds)
		}
		if wait := got.Sub(start); wait <= 0 || wait > time.Duration(seconds)*time.Second {
			t.Fatalf("Next(%v) = %v: %v away, want more than 0 and at most %ds", start, got, wait, seconds)
		}
	})
}

func FuzzCronIsAScheduleOrAnError(f *testing.F) {
	for _, seed := range []string{"* * * * *", "*/5 1-3 1,15 JAN MON", "@hourly", "@every 30s", "@every", "TZ=UTC", "CRON_TZ=UTC * * * * *", "0 0 30 2 *", "@", "? ? ? ? ?", "1-0 * * * *"} {
		f.Add(seed)
	}
	after := time.Date(2026, time.August, 1, 0, 0, 0, 0, time.UTC)
	f.Fuzz(func(t *testing.T, text string) {
		schedule, err := Cron(text).In(time.UTC)
		if (schedule == nil) == (err == nil) {
			t.Fatalf("%q: schedule %v and error %v", text, schedule, err)
		}
		if err == nil && text != "" && !schedule.Next(after).After(after) {
			t.Fatalf("%q fires at %v after %v", text, schedule.Next(after), after)
		}
		if _, ok := schedule.(cron.ConstantDelaySchedule); ok {
			t.Fatalf("%q counts from the start of the process", text)
		}
	})
}
