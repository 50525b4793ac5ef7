package web

import (
	"cmp"
	"context"
	"crypto/sha256"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"

	"polarmirror/internal/console"
	"polarmirror/internal/store"
)

// organizations are the configured ones, in the configuration's order, then those
// that only the database knows: how they stand, and what is being done for them.
type organizations struct {
	status   []store.OrgStatus
	activity map[uuid.UUID]store.Activity
}

func (p *Page) loadOrganizations(v *store.View, ctx context.Context, _ struct{}) (all organizations, err error) {
	query := store.OrgStatusQuery{Others: true}
	for _, o := range p.opts.Organizations {
		query.Organizations = append(query.Organizations, store.Organization{Name: o.Name, ID: o.ID})
	}
	if all.status, err = v.OrgStatus(ctx, query); err != nil {
		return all, err
	}
	all.activity, err = v.Activity(ctx)
	return all, err
}

// A statusBody is the first page, the page of one organization, and what /live
// answers of it.
type statusBody struct {
	Headline      headline
	Spoken        string // for a screen reader: what a run has come to, in steps
	Organizations []*organizationRow
	Runs          []store.RunRecord
	AllRuns       string        // where more of them are
	One           string        // the organization that the page is about; "" if about all
	Usage         *usageSection // nil if there is nothing to show
}

// home shows all organizations and the meters of one, or one organization alone.
func (p *Page) home(r *http.Request) (*reply, error) {
	name := r.PathValue("name")
	body, err := p.status(r, name)
	if err != nil {
		return nil, err
	}
	answer := &reply{view: "home", Title: body.Headline.Sentence, Place: "status", Live: "/live", Body: body}
	meters := 6
	if name != "" {
		answer.Title, answer.Place, answer.Live = name, "organization", "/live?organization="+name
		meters = 24
	}
	known := slices.DeleteFunc(slices.Clone(body.Organizations), func(o *organizationRow) bool { return !o.Known() })
	if len(known) == 0 {
		return answer, nil
	}
	chosen := slices.MaxFunc(known, func(a, b *organizationRow) int { return int(a.rows - b.rows) })
	for _, o := range known {
		if o.Organization == r.URL.Query().Get("usage") {
			chosen = o
		}
	}
	body.Usage = p.usageOf(r, chosen, meters)
	for _, o := range known {
		if len(known) > 1 {
			body.Usage.Others = append(body.Usage.Others, choice{o.Organization, here(r, "usage", o.Organization, "usage"), o == chosen})
		}
	}
	return answer, nil
}

// live answers with what has changed.
func (p *Page) live(r *http.Request) (*reply, error) {
	body, err := p.status(r, r.URL.Query().Get("organization"))
	if err != nil {
		return nil, err
	}
	return &reply{view: "live", Title: body.Headline.Sentence, Body: body}, nil
}

// status is about all organizations, or about the one with a name.
func (p *Page) status(r *http.Request, name string) (*statusBody, error) {
	ctx := r.Context()
	all, err := p.organizations.get(ctx, struct{}{})
	if err != nil {
		return nil, err
	}
	rows := p.organizationRows(ctx, all)
	body := &statusBody{AllRuns: "/runs", One: name}
	query := store.RunsQuery{Limit: 8}
	if name != "" {
		rows = slices.DeleteFunc(rows, func(o *organizationRow) bool { return o.Organization != name })
		if len(rows) == 0 {
			return nil, errNotFound
		}
		body.AllRuns = "/runs?organization=" + name
		query.Organization = rows[0].OrganizationID
	}
	body.Organizations = rows
	judged := slices.DeleteFunc(slices.Clone(rows), func(o *organizationRow) bool { return !o.Configured })
	if len(judged) == 0 { // with nothing configured here, what the database knows
		judged = rows
	}
	body.Headline, body.Spoken = headlineOf(judged), spoken(rows)
	if name != "" && query.Organization == uuid.Nil {
		return body, nil // it has no runs yet
	}
	body.Runs, err = p.runs.get(ctx, query)
	return body, err
}

// spoken says how far the walks are in quarters, so that it does not change with
// every page of the walk.
func spoken(rows []*organizationRow) string {
	quarters := [...]string{"begun", "a quarter done", "half done", "three quarters done", "nearly done"}
	var parts []string
	for _, o := range rows {
		for _, run := range o.Running {
			if run.Known {
				parts = append(parts, o.Organization+": "+string(run.Kind)+" run, "+quarters[run.Percent/25])
			}
		}
	}
	return strings.Join(parts, "; ")
}

// An organizationRow is an organization in the table of all.
type organizationRow struct {
	store.OrgStatus
	Configured                bool
	Verdict                   verdict
	DataAge                   string    // "" if there is no data
	NextFull, NextIncremental time.Time // zero if no schedule asks for it
	Rows                      string    // "" while they are being counted
	Requests                  *requests // nil if it is not configured here
	Running                   []runningRow

	rows int64
}

// Known reports whether the database knows the organization.
func (o *organizationRow) Known() bool { return o.OrganizationID != uuid.Nil }

// requests are those of a token within the last minute.
type requests struct {
	Sent          float64
	Limit         int // 0 if there is none
	Organizations int // that share the token
}

// Percent is how much of the limit was used.
func (r *requests) Percent() int { return min(int(100*r.Sent/float64(max(r.Limit, 1))), 100) }

// A runningRow is a run under way.
type runningRow struct {
	store.Running
	Known   bool // how far it is
	Percent int
	Text    string
}

// requestsByToken adds up what the configured organizations sent.
func (p *Page) requestsByToken(all organizations) map[[sha256.Size]byte]*requests {
	byToken := map[[sha256.Size]byte]*requests{}
	for i, o := range p.opts.Organizations {
		sum := cmp.Or(byToken[o.Token], &requests{Limit: o.RequestsPerMinute})
		sum.Organizations++
		sum.Sent += all.activity[all.status[i].OrganizationID].Requests
		byToken[o.Token] = sum
	}
	return byToken
}

// organizationRows shows all organizations, the configured ones first.
func (p *Page) organizationRows(ctx context.Context, all organizations) []*organizationRow {
	now := time.Now()
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	meters, uncounted := p.listMeters(ctx)
	byToken := p.requestsByToken(all)
	var rows []*organizationRow
	for i, s := range all.status {
		row := p.rowFor(s, all.activity[s.OrganizationID].Running, now)
		if i < len(p.opts.Organizations) {
			row.Configured = true
			row.NextFull, row.NextIncremental = p.opts.Schedules.Full.Next(now), p.opts.Schedules.Incremental.Next(now)
			row.Requests = byToken[p.opts.Organizations[i].Token]
		}
		for _, m := range meters {
			if m.OrganizationID == row.OrganizationID {
				row.rows += m.Customers
			}
		}
		if uncounted == nil {
			row.Rows = console.Count(row.rows)
		}
		rows = append(rows, row)
	}
	return rows
}

// rowFor is what an organization's status and the runs under way say.
func (p *Page) rowFor(s store.OrgStatus, running []store.Running, now time.Time) *organizationRow {
	row := &organizationRow{OrgStatus: s, Verdict: judge(&s, p.opts.MaxLag, p.opts.Schedules.Full, now)}
	if !s.DataFrom.IsZero() {
		row.DataAge = span(max(now.Sub(s.DataFrom), time.Second).Truncate(time.Second))
	}
	for _, run := range running {
		row.Running = append(row.Running, p.runningRow(s.Organization, run))
	}
	return row
}

// runningRow says how far a run is: by this process's own walk if it is that,
// else by the last block that its process saved.
func (p *Page) runningRow(organization string, run store.Running) runningRow {
	row := runningRow{Running: run}
	total, remaining, left := run.Total, run.Remaining, time.Duration(0)
	if at, here := p.opts.Walk(organization); here {
		total, remaining, left = int64(at.Total), int64(at.Remaining), at.Left
	}
	switch {
	case !run.Held:
		row.Text = "its process is gone; the next run goes on where it stopped"
	case run.Kind == store.Repair:
		row.Text = "repairs what verify found"
	case run.Kind != store.Full:
		row.Text = "reads what changed"
	case total <= 0:
		row.Text = "reads the first pages"
	default:
		done := min(max(total-remaining, 0), total)
		row.Known, row.Percent = true, int(100*done/total)
		row.Text = console.Count(done) + " of " + console.Plural(total, "row", "rows")
		if left > 0 {
			row.Text += ", about " + span(left) + " left"
		}
	}
	return row
}
