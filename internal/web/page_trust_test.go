package web

import (
	"strings"
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
		"nothing yet":   {&store.OrgStatus{Organization: "acme"}, waiting, "Not mirrored yet"},
		"first walk":    {&store.OrgStatus{Organization: "acme", Running: store.Full}, waiting, "First walk"},
		"only failures": {&store.OrgStatus{Organization: "acme", Failed: store.Failure{Kind: store.Full, Message: "401"}}, bad, "Failing"},
	} {
		set := &PageSettings{MaxLag: time.Hour, Full: hourly(t)}
		if got := judge(c.status, set, noon); got.Grade != c.want || got.Word != c.word {
			t.Errorf("%s: %v %q, want %v %q", name, got.Grade, got.Word, c.want, c.word)
		}
	}
}

func TestTrustIsTheWorstVerdictInOneSentence(t *testing.T) {
	t.Parallel()
	current := func(name string, minutes int) judged {
		return judged{Name: name, Verdict: verdict{good, "Current", ""}, Exact: noon.Add(-time.Duration(minutes) * time.Minute)}
	}
	stale := judged{Name: "globex", Verdict: verdict{bad, "Stale", "is stale: its data is from 3 h ago"}}
	failed := judged{Name: "initech", Verdict: verdict{doubt, "Current, a run failed", "is current, but its last full run failed"}}
	fresh := judged{Name: "hooli", Verdict: verdict{waiting, "Not mirrored yet", "has not been mirrored yet"}}
	for _, c := range []struct {
		all      []judged
		grade    grade
		sentence string
		detail   string
		named    int
	}{
		{nil, waiting, "Nothing is mirrored yet.", "", 0},
		{[]judged{current("acme", 3)}, good, "acme is current.", "Last proven exact 3 min ago.", 0},
		{[]judged{current("acme", 3), current("globex", 43)}, good, "Every organization is current.", "Each was proven exact within the last 43 min.", 0},
		{[]judged{stale}, bad, "globex is stale: its data is from 3 h ago.", "", 0},
		{[]judged{current("acme", 3), stale, failed}, bad, "One of 3 organizations is not current.", "", 1},
		{[]judged{stale, stale}, bad, "No organization is current.", "", 2},
		{[]judged{current("acme", 3), failed}, doubt, "Current, but one of 2 organizations needs a look.", "", 1},
		{[]judged{current("acme", 3), fresh}, waiting, "One of 2 organizations is not mirrored yet.", "", 1},
		{[]judged{stale, stale, stale, stale, stale, stale, stale}, bad, "No organization is current.", "and 2 others", 5},
	} {
		got := trustIn(c.all, noon)
		if got.Grade != c.grade || plainSpace(got.Sentence) != c.sentence || plainSpace(got.Detail) != c.detail || len(got.Named) != c.named {
			t.Errorf("got %v %q %q, %d named; want %v %q %q, %d named", got.Grade, got.Sentence, got.Detail, len(got.Named), c.grade, c.sentence, c.detail, c.named)
		}
	}
}

func plainSpace(s string) string { return strings.ReplaceAll(s, "\u00a0", " ") }

func TestQuartersSpeakSeldom(t *testing.T) {
	t.Parallel()
	said := map[string]bool{}
	for percent := -1; percent <= 101; percent++ {
		said[quarters(percent)] = true
	}
	if len(said) != 5 {
		t.Errorf("%d different texts on the way, want 5: %v", len(said), said)
	}
}
