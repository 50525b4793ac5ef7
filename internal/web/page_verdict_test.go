package web

import (
	"testing"
	"time"

	"github.com/robfig/cron/v3"

	"polarmirror/internal/store"
)

var noon = time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)

func hourly(t *testing.T) cron.Schedule {
	t.Helper()
	s, err := cron.ParseStandard("17 * * * *")
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// sound is an organization with nothing to complain of.
func sound(changes ...func(*store.OrgStatus)) *store.OrgStatus {
	exact, age := true, 20*time.Second
	full := store.LastRun{ID: 1, Started: noon.Add(-43 * time.Minute), Finished: noon.Add(-42 * time.Minute)}
	s := &store.OrgStatus{
		Organization: "acme",
		DataFrom:     noon.Add(-age), Age: &age,
		LastFull: full, FullExact: &exact, LastExact: full,
		LastIncremental: store.LastRun{ID: 2, Started: noon.Add(-age), Finished: noon.Add(-19 * time.Second)},
	}
	for _, change := range changes {
		change(s)
	}
	return s
}

func TestJudgeTrustsNothingButYoungProvenData(t *testing.T) {
	t.Parallel()
	no := false
	for name, c := range map[string]struct {
		status *store.OrgStatus
		want   grade
		word   string
	}{
		"sound":           {sound(), good, "Current"},
		"old data":        {sound(func(s *store.OrgStatus) { s.DataFrom = noon.Add(-61 * time.Minute) }), bad, "Stale"},
		"undated data":    {sound(func(s *store.OrgStatus) { s.DataFrom, s.Age = time.Time{}, nil }), bad, "Stale"},
		"undated, failed": {sound(func(s *store.OrgStatus) { s.DataFrom, s.Age, s.Failed.Kind = time.Time{}, nil, store.Full }), bad, "Stale"},
		"a failure":       {sound(func(s *store.OrgStatus) { s.Failed = store.Failure{Kind: store.Full, Message: "no answer"} }), doubt, "Current, a run failed"},
		"rejected rows": {sound(func(s *store.OrgStatus) { s.FullExact, s.FullRejected, s.LastFull.ID = &no, 3, 3 }), doubt,
			"Current, not exact"},
		"never exact":   {sound(func(s *store.OrgStatus) { s.LastExact = store.LastRun{} }), doubt, "Current, not proven"},
		"undated proof": {sound(func(s *store.OrgStatus) { s.LastExact = store.LastRun{ID: 1} }), doubt, "Current, not proven"},
		"old proof":     {sound(func(s *store.OrgStatus) { s.LastExact.Started = noon.Add(-5 * time.Hour) }), doubt, "Current, proof overdue"},
		"silence":       {sound(func(s *store.OrgStatus) { s.WebhooksSilentSince = noon.Add(-time.Hour) }), doubt, "Current, webhooks silent"},
		"nothing yet":   {&store.OrgStatus{Organization: "acme"}, waiting, "Not mirrored yet"},
		"first run":     {&store.OrgStatus{Organization: "acme", Running: store.Full}, waiting, "First run"},
		"only failures": {&store.OrgStatus{Organization: "acme", Failed: store.Failure{Kind: store.Full, Message: "401"}}, bad, "Failing"},
	} {
		if got := judge(c.status, time.Hour, hourly(t), noon); got.Grade != c.want || got.Word != c.word {
			t.Errorf("%s: %v %q, want %v %q", name, got.Grade, got.Word, c.want, c.word)
		}
	}
}

func TestHeadlineIsTheWorstVerdictInOneSentence(t *testing.T) {
	t.Parallel()
	row := func(name string, v verdict, proven time.Duration) *organizationRow {
		return &organizationRow{OrgStatus: store.OrgStatus{Organization: name, LastExact: store.LastRun{Started: noon.Add(-proven)}}, Verdict: v}
	}
	current := row("acme", verdict{good, "Current", "is current"}, time.Minute)
	other := row("hooli", verdict{good, "Current", "is current"}, time.Hour)
	stale := row("globex", verdict{bad, "Stale", "is stale: its data is from 3 h ago"}, time.Hour)
	failed := row("initech", verdict{doubt, "Current, a run failed", "is current, but its last full run failed"}, time.Hour)
	fresh := row("umbrella", verdict{waiting, "Not mirrored yet", "has not been mirrored yet"}, time.Hour)
	for _, c := range []struct {
		all      []*organizationRow
		grade    grade
		sentence string
		named    int
		more     int64
		proven   time.Duration // ago; 0: not said
	}{
		{nil, waiting, "Nothing is mirrored yet.", 0, 0, 0},
		{[]*organizationRow{current}, good, "acme is current.", 0, 0, time.Minute},
		{[]*organizationRow{current, other}, good, "All organizations are current.", 0, 0, time.Hour},
		{[]*organizationRow{stale}, bad, "globex is stale: its data is from 3 h ago.", 0, 0, 0},
		{[]*organizationRow{current, stale, failed}, bad, "Not current: 1 of 3 organizations.", 1, 0, 0},
		{[]*organizationRow{stale, stale}, bad, "Not current: 2 of 2 organizations.", 2, 0, 0},
		{[]*organizationRow{current, failed}, doubt, "All organizations are current, but 1 needs a look.", 1, 0, 0},
		{[]*organizationRow{current, failed, fresh}, doubt, "Not mirrored yet: 1 of 3 organizations; 1 other needs a look.", 1, 0, 0},
		{[]*organizationRow{current, fresh}, waiting, "Not mirrored yet: 1 of 2 organizations.", 1, 0, 0},
		{[]*organizationRow{stale, stale, stale, stale, stale, stale, stale}, bad, "Not current: 7 of 7 organizations.", 5, 2, 0},
	} {
		got := headlineOf(c.all)
		if got.Grade != c.grade || got.Sentence != c.sentence || len(got.Named) != c.named || got.More != c.more {
			t.Errorf("got %v %q, %d named, %d more; want %v %q, %d, %d", got.Grade, got.Sentence, len(got.Named), got.More, c.grade, c.sentence, c.named, c.more)
		}
		if said := !got.Proven.IsZero(); said != (c.proven > 0) || said && noon.Sub(got.Proven) != c.proven {
			t.Errorf("%q: proven at %s, want %s ago", got.Sentence, got.Proven, c.proven)
		}
	}
}

func TestWalksAreReadOutInQuarters(t *testing.T) {
	t.Parallel()
	said := map[string]bool{}
	for percent := range 101 {
		said[spoken([]*organizationRow{{Running: []runningRow{{Known: true, Percent: percent}}}})] = true
	}
	if len(said) != 5 {
		t.Errorf("%d different texts on the way, want 5: %v", len(said), said)
	}
}
