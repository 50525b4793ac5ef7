package web

import (
	"context"
	"math"
	"time"

	"github.com/google/uuid"

	"polarmirror/internal/store"
)

// An organizationRow is an organization in the table of all.
type organizationRow struct {
	Name, Path, ID string // ID is "" if the database does not know it yet
	Configured     bool
	Verdict        verdict
	Age            string // of the data; "" if there is none
	Data           moment // from when it is
	Full, Tick     moment // when the last one ended
	Proof          moment
	Exact          string // what the last full run proved, and how; "" if there was none
	Proven         bool   // it was exact
	Rejected       int64
	NextFull       moment // Text is "never" if no schedule asks for it
	NextTick       moment
	Rows           string // "" while they are being counted
	Budget         *budget
	Running        []runningRow
	Failed         *failedRow

	id    uuid.UUID
	rows  int64
	exact time.Time
}

// A budget is how much of a token's requests was used within the last minute.
type budget struct {
	Used, Limit int // Limit is 0 if there is none
	Percent     int
	Shared      int // with so many other organizations
}

type failedRow struct {
	Kind    string
	At      moment
	Message string
}

// A runningRow is a run under way.
type runningRow struct {
	Title   string // Full run, ...
	Of      string // organization
	Since   moment
	Known   bool // how far it is
	Percent int
	Text    string
	Lost    bool // its process is gone
}

// organizationRows lists the configured organizations in the configuration's
// order, then those that only the database knows.
func (p *Page) organizationRows(ctx context.Context, all organizations, set *PageSettings) []organizationRow {
	byName := make(map[string]store.OrgStatus, len(all.status))
	for _, s := range all.status {
		byName[s.Organization] = s
	}
	live := p.liveRows(ctx)
	spent := spent(all, set)
	var rows []organizationRow
	for _, o := range set.Organizations {
		s, known := byName[o.Name]
		if !known {
			s = store.OrgStatus{Organization: o.Name}
		}
		delete(byName, o.Name)
		row := p.organizationRow(&s, all.activity[s.OrganizationID].Running, set, live)
		row.Configured, row.Budget = true, spent[o.Name]
		now := p.now()
		if set.Full != nil {
			row.NextFull = momentOf(now, set.Full.Next(now))
		}
		if set.Incremental != nil {
			row.NextTick = momentOf(now, set.Incremental.Next(now))
		}
		rows = append(rows, row)
	}
	for _, s := range all.status {
		if _, left := byName[s.Organization]; left {
			rows = append(rows, p.organizationRow(&s, all.activity[s.OrganizationID].Running, set, live))
		}
	}
	return rows
}

func (p *Page) organizationRow(s *store.OrgStatus, running []store.Running, set *PageSettings, live map[uuid.UUID]int64) organizationRow {
	now := p.now()
	row := organizationRow{
		Name:     s.Organization,
		Path:     organizationPath(s.Organization),
		Verdict:  judge(s, set, now),
		Data:     momentOf(now, s.DataFrom),
		Full:     lastMoment(now, s.LastFull.ID, s.LastFull.Finished),
		Tick:     lastMoment(now, s.LastIncremental.ID, s.LastIncremental.Finished),
		Proof:    lastMoment(now, s.LastExact.ID, s.LastExact.Started),
		Rejected: s.FullRejected,
		NextFull: moment{Text: "never"},
		NextTick: moment{Text: "never"},
		id:       s.OrganizationID,
		rows:     live[s.OrganizationID],
		exact:    s.LastExact.Started,
	}
	if s.OrganizationID != uuid.Nil {
		row.ID = s.OrganizationID.String()
	}
	if !s.DataFrom.IsZero() {
		row.Age = span(max(now.Sub(s.DataFrom), time.Second).Truncate(time.Second))
	}
	if s.FullExact != nil {
		row.Exact, row.Proven = "not exact", *s.FullExact
	}
	if row.Proven {
		row.Exact = provenBy("exact", s.FullMethod)
	}
	if live != nil {
		row.Rows = count(row.rows)
	}
	if s.Failing() {
		row.Failed = &failedRow{Kind: kindNoun(s.Failed.Kind), At: lastMoment(now, 1, s.Failed.At), Message: s.Failed.Message}
	}
	for _, run := range running {
		row.Running = append(row.Running, p.runningRow(s.Organization, run))
	}
	return row
}

// liveRows counts each organization's rows; nil while that takes its time.
func (p *Page) liveRows(ctx context.Context) map[uuid.UUID]int64 {
	meters, _, err := p.meters.get(ctx, struct{}{})
	if err != nil {
		return nil
	}
	rows := map[uuid.UUID]int64{}
	for _, m := range meters {
		rows[m.OrganizationID] += m.Customers
	}
	return rows
}

// runningRow says how far a run is: by this process's own walk if it is that,
// else by the last block that its process saved.
func (p *Page) runningRow(organization string, run store.Running) runningRow {
	now := p.now()
	row := runningRow{Title: title(kindNoun(run.Kind)), Of: organization, Since: lastMoment(now, run.ID, run.StartedAt)}
	if !run.Held {
		row.Lost = true
		row.Text = "its process is gone; the next run goes on where it stopped"
		return row
	}
	if run.Kind != store.Full {
		row.Text = "reads what changed"
		return row
	}
	total, remaining, seen := run.Total, run.Remaining, run.Counts.RowsSeen
	if at, here := p.opts.Walks.position(organization); here {
		total, remaining, seen = int64(at.Total), int64(at.Remaining), int64(at.Rows)
	}
	if total <= 0 {
		row.Text = "reads the first pages"
		return row
	}
	done := min(max(total-remaining, 0), total)
	row.Known, row.Percent = true, int(100*done/total)
	row.Text = count(done) + " of " + plural(total, "row", "rows")
	if left := left(remaining, seen, now.Sub(run.StartedAt)); left > 0 && !run.StartedAt.IsZero() {
		row.Text += ", about " + span(left) + " left"
	}
	return row
}

// left is how long the remaining rows take at the pace so far; 0 if unknown.
func left(remaining, seen int64, elapsed time.Duration) time.Duration {
	if remaining <= 0 || seen <= 0 || elapsed < time.Second {
		return 0
	}
	seconds := elapsed.Seconds() * float64(remaining) / float64(seen)
	return time.Duration(max(seconds, 1)) * time.Second
}

// spent is what was used of each configured organization's budget, as the runs of
// all replicas tell: the sum over all that share its token.
func spent(all organizations, set *PageSettings) map[string]*budget {
	estimates := make(map[string]float64, len(all.status))
	for _, s := range all.status {
		estimates[s.Organization] = all.activity[s.OrganizationID].Requests
	}
	type token struct {
		used    float64
		members int
	}
	tokens := map[int]*token{}
	for _, o := range set.Organizations {
		t, ok := tokens[o.Token]
		if !ok {
			t = &token{}
			tokens[o.Token] = t
		}
		t.members++
		t.used += estimates[o.Name]
	}
	budgets := make(map[string]*budget, len(set.Organizations))
	for _, o := range set.Organizations {
		t := tokens[o.Token]
		b := &budget{Used: int(math.Round(t.used)), Limit: o.RequestsPerMinute, Shared: t.members - 1}
		if b.Limit > 0 {
			b.Percent = min(100*b.Used/b.Limit, 100)
		}
		budgets[o.Name] = b
	}
	return budgets
}

// title writes an English text's first letter large.
func title(s string) string {
	if s == "" || s[0] < 'a' || s[0] > 'z' {
		return s
	}
	return string(s[0]-'a'+'A') + s[1:]
}
