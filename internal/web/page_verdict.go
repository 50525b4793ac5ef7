package web

import (
	"fmt"
	"time"

	"github.com/robfig/cron/v3"

	"polarmirror/internal/console"
	"polarmirror/internal/store"
)

// A grade says how far an organization's mirror can be trusted; a greater one
// is worse. Its text is a CSS class too.
type grade int

// The grades.
const (
	good    grade = iota // current, and proven exact
	waiting              // not mirrored yet, and nothing says that it won't be
	doubt                // current, and somebody should look
	bad                  // not current
)

// String returns good, waiting, doubt or bad.
func (g grade) String() string { return [...]string{"good", "waiting", "doubt", "bad"}[g] }

// A verdict is what is to be thought of one organization.
type verdict struct {
	Grade  grade
	Word   string // Current, Stale, ...: never by colour alone
	Reason string // a clause to follow the organization's name
}

// judge says how far to trust an organization. Success is judged by the age of
// the data, never by the absence of errors.
func judge(s *store.OrgStatus, maxLag time.Duration, full cron.Schedule, now time.Time) verdict {
	age := now.Sub(s.DataFrom)
	switch {
	case s.Undated():
		return verdict{bad, "Stale", "may be stale: its last run is dated later than now, so the age of its data is unknown"}
	case s.DataFrom.IsZero() && s.Failing():
		return verdict{bad, "Failing", "has never been mirrored: its runs fail"}
	case s.DataFrom.IsZero() && s.Running != "":
		return verdict{waiting, "First run", "is being mirrored for the first time"}
	case s.DataFrom.IsZero():
		return verdict{waiting, "Not mirrored yet", "has not been mirrored yet"}
	case maxLag > 0 && age > maxLag:
		return verdict{bad, "Stale", fmt.Sprintf("is stale: its data is from %s ago", span(age))}
	case s.Failing():
		return verdict{doubt, "Current, a run failed", fmt.Sprintf("is current, but its last %s run failed", s.Failed.Kind)}
	case s.LastExact.ID != 0 && s.LastExact.Started.IsZero():
		return verdict{doubt, "Current, not proven", "is current, but its last proof is dated later than now, so its age is unknown"}
	case s.LastExact.ID == 0:
		return verdict{doubt, "Current, not proven", "is current, but was never proven exact"}
	case s.FullExact != nil && !*s.FullExact && s.FullRejected > 0 && s.LastExact.ID < s.LastFull.ID:
		return verdict{doubt, "Current, not exact", fmt.Sprintf("is current except for %s that could not be mirrored", console.Plural(s.FullRejected, "row", "rows"))}
	case overdue(full, s.LastExact.Started, now):
		return verdict{doubt, "Current, proof overdue", fmt.Sprintf("is current, but was last proven exact %s ago", span(now.Sub(s.LastExact.Started)))}
	case !s.WebhooksSilentSince.IsZero():
		return verdict{doubt, "Current, webhooks silent", "is current by its runs, but its webhooks no longer arrive: Polar disables an endpoint after ten failed deliveries"}
	default:
		return verdict{good, "Current", "is current"}
	}
}

// overdue reports whether full runs have been due twice over since the last
// proof, and should have ended.
func overdue(full cron.Schedule, proven, now time.Time) bool {
	once := full.Next(proven)
	twice := full.Next(once)
	if once.IsZero() || twice.IsZero() {
		return false
	}
	return now.After(twice.Add(max(twice.Sub(once), time.Minute)))
}

// A headline is the answer to the page's first question.
type headline struct {
	Grade    grade
	Sentence string
	Named    []*organizationRow // those with the worst verdict, if there are others
	More     int64              // of them, left out
	Proven   time.Time          // by when all had been proven exact, if everything is good
}

// headlineOf sums organizations up in one sentence: that of the worst.
func headlineOf(all []*organizationRow) headline {
	if len(all) == 0 {
		return headline{Grade: waiting, Sentence: "Nothing is mirrored yet."}
	}
	h := headline{Proven: all[0].LastExact.Started}
	var count [bad + 1]int
	for _, o := range all {
		count[o.Verdict.Grade]++
		if o.Verdict.Grade > h.Grade {
			h.Grade, h.Named = o.Verdict.Grade, nil
		}
		if o.Verdict.Grade == h.Grade {
			h.Named = append(h.Named, o)
		}
		if o.LastExact.Started.Before(h.Proven) {
			h.Proven = o.LastExact.Started
		}
	}
	worst := count[h.Grade]
	if h.Grade != good {
		h.Proven = time.Time{}
	}
	const most = 5
	h.Named, h.More = h.Named[:min(worst, most)], int64(max(worst-most, 0))
	if len(all) == 1 || h.Grade == good {
		h.Named, h.More = nil, 0
	}
	of := func(n int) string { return fmt.Sprintf("%d of %d organizations", n, len(all)) }
	switch {
	case len(all) == 1:
		h.Sentence = all[0].Organization + " " + all[0].Verdict.Reason + "."
	case h.Grade == good:
		h.Sentence = "All organizations are current."
	case h.Grade == waiting:
		h.Sentence = "Not mirrored yet: " + of(worst) + "."
	case h.Grade == doubt && count[waiting] > 0:
		h.Sentence = "Not mirrored yet: " + of(count[waiting]) + "; " + console.Plural(int64(worst), "other needs", "others need") + " a look."
	case h.Grade == doubt:
		h.Sentence = "All organizations are current, but " + console.Plural(int64(worst), "needs", "need") + " a look."
	default:
		h.Sentence = "Not current: " + of(worst) + "."
	}
	return h
}
