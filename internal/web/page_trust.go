package web

import (
	"fmt"
	"time"

	"github.com/robfig/cron/v3"

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
	Reason string // a clause to follow the organization's name; "" if it is simply current
}

// judge says how far to trust an organization. Success is judged by the age of
// the data, never by the absence of errors.
func judge(s *store.OrgStatus, set *PageSettings, now time.Time) verdict {
	age := now.Sub(s.DataFrom)
	switch {
	case s.Undated():
		return verdict{bad, "Stale", "may be stale: its last run is dated later than now, so the age of its data is unknown"}
	case s.DataFrom.IsZero() && s.Failing():
		return verdict{bad, "Failing", "has never been mirrored: its runs fail"}
	case s.DataFrom.IsZero() && s.Running != "":
		return verdict{waiting, "First walk", "is being walked for the first time"}
	case s.DataFrom.IsZero():
		return verdict{waiting, "Not mirrored yet", "has not been mirrored yet"}
	case set.MaxLag > 0 && age > set.MaxLag:
		return verdict{bad, "Stale", fmt.Sprintf("is stale: its data is from %s ago", span(age))}
	case s.Failing():
		return verdict{doubt, "Current, a run failed", fmt.Sprintf("is current, but its last %s failed", kindNoun(s.Failed.Kind))}
	case s.LastExact.ID != 0 && s.LastExact.Started.IsZero():
		return verdict{doubt, "Current, not proven", "is current, but its last proof is dated later than now, so its age is unknown"}
	case s.LastExact.ID == 0:
		return verdict{doubt, "Current, not proven", "is current, but was never proven exact"}
	case s.FullExact != nil && !*s.FullExact && s.FullRejected > 0 && s.LastExact.ID < s.LastFull.ID:
		return verdict{doubt, "Current, not exact", fmt.Sprintf("is current but for %s that could not be mirrored", plural(s.FullRejected, "row", "rows"))}
	case overdue(set.Full, s.LastExact.Started, now):
		return verdict{doubt, "Current, proof overdue", fmt.Sprintf("is current, but was last proven exact %s ago", span(now.Sub(s.LastExact.Started)))}
	default:
		return verdict{good, "Current", ""}
	}
}

// overdue reports whether full runs have been due twice over since the last
// proof, and should have ended.
func overdue(full cron.Schedule, proven, now time.Time) bool {
	if full == nil {
		return false
	}
	once := full.Next(proven)
	twice := full.Next(once)
	if once.IsZero() || twice.IsZero() {
		return false
	}
	return now.After(twice.Add(max(twice.Sub(once), time.Minute)))
}

func kindNoun(k store.Kind) string {
	switch k {
	case store.Full:
		return "full run"
	case store.Incremental:
		return "incremental run"
	default:
		return string(k) + " run"
	}
}

// A judged is an organization with its verdict.
type judged struct {
	Name    string
	Verdict verdict
	Exact   time.Time // start of the last run that proved it exact
}

// A trust is the answer to the page's first question.
type trust struct {
	Grade    grade
	Sentence string
	Detail   string
	Named    []judged // those the detail is about; their reasons follow their names
}

// named is how many organizations the detail names at most.
const named = 5

// trustIn sums the organizations up in one sentence.
func trustIn(all []judged, now time.Time) trust {
	if len(all) == 0 {
		return trust{Grade: waiting, Sentence: "Nothing is mirrored yet."}
	}
	worst := good
	for _, j := range all {
		worst = max(worst, j.Verdict.Grade)
	}
	var of []judged
	for _, j := range all {
		if j.Verdict.Grade == worst {
			of = append(of, j)
		}
	}
	t := trust{Grade: worst, Named: of[:min(len(of), named)]}
	switch {
	case worst == good:
		t.Sentence, t.Detail, t.Named = current(all), proof(all, now), nil
	case len(all) == 1:
		t.Sentence, t.Named = all[0].Name+" "+all[0].Verdict.Reason+".", nil
	default:
		t.Sentence = several(worst, len(of), len(all))
	}
	if rest := len(of) - len(t.Named); rest > 0 && len(t.Named) > 0 {
		t.Detail = "and " + plural(int64(rest), "other", "others")
	}
	return t
}

func current(all []judged) string {
	if len(all) == 1 {
		return all[0].Name + " is current."
	}
	return "Every organization is current."
}

// proof says how old the oldest proof of exactness is.
func proof(all []judged, now time.Time) string {
	oldest := all[0].Exact
	for _, j := range all {
		if j.Exact.Before(oldest) {
			oldest = j.Exact
		}
	}
	if len(all) == 1 {
		return "Last proven exact " + ago(now, oldest) + "."
	}
	return "Each was proven exact within the last " + span(max(now.Sub(oldest), time.Second)) + "."
}

// several says how many of several organizations have a grade.
func several(worst grade, n, all int) string {
	who, verb, need := fmt.Sprintf("%d of %d organizations", n, all), "are", "need"
	if n == 1 {
		who, verb, need = fmt.Sprintf("one of %d organizations", all), "is", "needs"
	}
	switch {
	case worst == bad && n == all:
		return "No organization is current."
	case worst == bad:
		return title(who) + " " + verb + " not current."
	case worst == doubt && n == all:
		return "Current, but every organization needs a look."
	case worst == doubt:
		return "Current, but " + who + " " + need + " a look."
	case n == all:
		return "No organization is mirrored yet."
	default:
		return title(who) + " " + verb + " not mirrored yet."
	}
}
