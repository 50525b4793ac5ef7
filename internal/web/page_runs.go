package web

import (
	"net/http"
	"net/url"
	"strconv"

	"polarmirror/internal/store"
)

// runsAPage is how many runs a page of them shows.
const runsAPage = 50

// A runRow is a run in a table.
type runRow struct {
	ID                               int64
	Organization, Path               string
	Kind                             string
	Started                          moment
	Took                             string
	Class                            string // good, doubt, bad, busy or idle
	Result                           string
	Pages, Requests                  int64
	Seen, Inserted, Updated, Deleted int64
	Rejected, Retries, RateLimited   int64
	Error                            string
}

func (p *Page) runRows(runs []store.RunRecord) []runRow {
	now := p.now()
	var rows []runRow
	for _, r := range runs {
		c := r.Counts
		row := runRow{
			ID: r.ID, Organization: r.Organization, Path: organizationPath(r.Organization), Kind: title(string(r.Kind)),
			Started: momentOf(now, r.StartedAt), Pages: c.Pages, Requests: c.Requests, Seen: c.RowsSeen,
			Inserted: c.RowsInserted, Updated: c.RowsUpdated, Deleted: c.RowsDeleted,
			Rejected: c.RowsRejected, Retries: c.Retries, RateLimited: c.RateLimited, Error: r.Error,
		}
		row.Class, row.Result = result(&r)
		if end := r.FinishedAt; !end.IsZero() {
			row.Took = span(max(end.Sub(r.StartedAt), 0)) // a clock may have been set back meanwhile
		} else {
			row.Took = span(max(now.Sub(r.StartedAt), 0)) + " so far"
		}
		rows = append(rows, row)
	}
	return rows
}

// result is what became of a run, in a word and as a class.
func result(r *store.RunRecord) (class, word string) {
	switch {
	case r.Status == "running":
		return "busy", "Running"
	case r.Status == "failed":
		return "bad", "Failed"
	case r.Status == "abandoned":
		return "idle", "Broken off"
	case r.Exact != nil && *r.Exact:
		return "good", provenBy("Exact", r.Method)
	case r.Exact != nil:
		return "doubt", "Not exact"
	default:
		return "good", "Done"
	}
}

// provenBy adds by which method a run is exact.
func provenBy(exact string, method store.Method) string {
	if method == "" {
		return exact
	}
	return exact + " (" + string(method) + ")"
}

// A runsBody is the page of runs.
type runsBody struct {
	Organization string // "" for all
	One          bool   // not for all
	Names        []string
	All          bool // ticks that found nothing, too
	Runs         []runRow
	Older        string // path; "" if there are none
	Newest       string // path; "" if these are
}

func (p *Page) runList(r *http.Request) (*reply, error) {
	q := r.URL.Query()
	all, _, err := p.orgs.get(r.Context(), struct{}{})
	if err != nil {
		return nil, err
	}
	body := runsBody{Organization: q.Get("organization"), All: q.Get("all") != ""}
	body.One = body.Organization != ""
	want := store.RunsWanted{Idle: body.All, Limit: runsAPage + 1}
	want.Before, _ = strconv.ParseInt(q.Get("before"), 10, 64) // else from the newest
	found := body.Organization == ""
	for _, s := range all.status {
		body.Names = append(body.Names, s.Organization)
		if s.Organization == body.Organization {
			want.Organization, found = s.OrganizationID, true
		}
	}
	if !found {
		return nil, errNotFound
	}
	runs, _, err := p.runs.get(r.Context(), want)
	if err != nil {
		return nil, err
	}
	path := func(before int64) string {
		v := url.Values{}
		if body.Organization != "" {
			v.Set("organization", body.Organization)
		}
		if body.All {
			v.Set("all", "1")
		}
		if before > 0 {
			v.Set("before", strconv.FormatInt(before, 10))
		}
		if len(v) == 0 {
			return "/runs"
		}
		return "/runs?" + v.Encode()
	}
	if len(runs) > runsAPage {
		runs = runs[:runsAPage]
		body.Older = path(runs[runsAPage-1].ID)
	}
	if want.Before > 0 {
		body.Newest = path(0)
	}
	body.Runs = p.runRows(runs)
	return &reply{view: "runs", frame: frame{Title: "Runs", Place: "runs", Body: body}}, nil
}
