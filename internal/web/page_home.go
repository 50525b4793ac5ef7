package web

import (
	"net/http"
	"slices"
	"strings"

	"polarmirror/internal/store"
)

const (
	homeRuns   = 8  // recent runs on the first page
	homeMeters = 6  // meters shown there
	tabs       = 12 // organizations offered as tabs; more make a list to choose from
)

// A status is what changes while one looks: the answer of /live, and the upper
// part of the pages that ask for it.
type status struct {
	Trust         trust
	Spoken        string // for a screen reader: what a run has come to, in steps
	Organizations []organizationRow
	Runs          []runRow
	AllRuns       string // where more of them are
	One           bool   // the page is about one organization
}

// A homeBody is the first page.
type homeBody struct {
	status
	Usage *usageSection // nil if there is nothing to show
}

// A usageSection is what the meters of an organization say.
type usageSection struct {
	Organization string
	Path         string
	Others       []tab // the organizations to choose from, this one too; empty if it is alone
	Many         bool  // too many for tabs
	Meters       []meterPanel
	More         int // meters that are only on the organization's own page
	Note         string
}

type tab struct {
	Name, Path string
	Here       bool
}

func (p *Page) home(r *http.Request) (*reply, error) {
	s, err := p.status(r, "")
	if err != nil {
		return nil, err
	}
	body := homeBody{status: *s, Usage: p.homeUsage(r, s.Organizations)}
	return &reply{view: "home", frame: frame{Title: s.Trust.Sentence, Place: "status", Live: "/live", Body: body}}, nil
}

// live answers with what has changed.
func (p *Page) live(r *http.Request) (*reply, error) {
	name := r.URL.Query().Get("organization")
	s, err := p.status(r, name)
	if err != nil {
		return nil, err
	}
	return &reply{view: "home", entry: "live", frame: frame{Title: s.Trust.Sentence, Body: s}}, nil
}

// status is about all organizations, or about the one with a name.
func (p *Page) status(r *http.Request, name string) (*status, error) {
	ctx := r.Context()
	all, _, err := p.orgs.get(ctx, struct{}{})
	if err != nil {
		return nil, err
	}
	rows := p.organizationRows(ctx, all, &p.opts.Settings)
	s := &status{AllRuns: "/runs"}
	want := store.RunsWanted{Limit: homeRuns}
	if name != "" {
		rows = slices.DeleteFunc(rows, func(o organizationRow) bool { return o.Name != name })
		if len(rows) == 0 {
			return nil, errNotFound
		}
		s.One, s.AllRuns = true, "/runs?organization="+rows[0].Name
		want.Organization = rows[0].id
	}
	s.Organizations = rows
	s.Trust = trustIn(judgedOf(rows), p.now())
	s.Spoken = spoken(rows)
	if name != "" && rows[0].ID == "" {
		return s, nil // it has no runs yet
	}
	runs, _, err := p.runs.get(ctx, want)
	if err != nil {
		return nil, err
	}
	s.Runs = p.runRows(runs)
	return s, nil
}

// judgedOf are the organizations that the sentence is about: those configured
// here, or all that the database knows if none is.
func judgedOf(rows []organizationRow) []judged {
	var configured, all []judged
	for _, o := range rows {
		j := judged{Name: o.Name, Verdict: o.Verdict, Exact: o.exact}
		all = append(all, j)
		if o.Configured {
			configured = append(configured, j)
		}
	}
	if len(configured) > 0 {
		return configured
	}
	return all
}

// spoken says how far the walks are in steps of a quarter, so that it does not
// change with every page of the walk.
func spoken(rows []organizationRow) string {
	var parts []string
	for _, o := range rows {
		for _, run := range o.Running {
			if run.Known {
				parts = append(parts, o.Name+": "+run.Title+", "+quarters(run.Percent))
			}
		}
	}
	return strings.Join(parts, "; ")
}

func quarters(percent int) string {
	return [...]string{"begun", "a quarter done", "half done", "three quarters done", "nearly done"}[min(max(percent, 0), 100)/25]
}

// homeUsage is about the organization that was asked for, else about the one
// with the most rows.
func (p *Page) homeUsage(r *http.Request, rows []organizationRow) *usageSection {
	var known []organizationRow
	for _, o := range rows {
		if o.ID != "" {
			known = append(known, o)
		}
	}
	if len(known) == 0 {
		return nil
	}
	chosen := slices.MaxFunc(known, func(a, b organizationRow) int { return int(a.rows - b.rows) })
	for _, o := range known {
		if o.Name == r.URL.Query().Get("usage") {
			chosen = o
		}
	}
	section := p.usageOf(r.Context(), chosen, homeMeters)
	if len(known) > 1 {
		section.Many = len(known) > tabs
		for _, o := range known {
			section.Others = append(section.Others, tab{Name: o.Name, Path: "/?usage=" + o.Name + "#usage", Here: o.Name == chosen.Name})
		}
	}
	return section
}
