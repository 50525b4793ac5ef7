package web

import (
	"net/http"
	"strconv"

	"polarmirror/internal/store"
)

// A runRow is a run in a table.
type runRow struct {
	store.RunRecord
	Duration string
	Class    string // good, doubt, bad, busy or idle
	Result   string
}

func (p *Page) runRows(runs []store.RunRecord) []runRow {
	var rows []runRow
	for _, r := range runs {
		row := runRow{RunRecord: r}
		end, more := r.FinishedAt, ""
		if end.IsZero() {
			end, more = p.now(), " so far"
		}
		row.Duration = span(max(end.Sub(r.StartedAt), 0)) + more // a clock may have been set back meanwhile
		switch {
		case r.Status == "running":
			row.Class, row.Result = "busy", "Running"
		case r.Status == "failed":
			row.Class, row.Result = "bad", "Failed"
		case r.Status == "abandoned":
			row.Class, row.Result = "idle", "Abandoned"
		case r.Exact == nil:
			row.Class, row.Result = "good", "Done"
		case *r.Exact:
			row.Class, row.Result = "good", "Exact"
		default:
			row.Class, row.Result = "doubt", "Not exact"
		}
		if r.Method != "" {
			row.Result += " (" + string(r.Method) + ")"
		}
		rows = append(rows, row)
	}
	return rows
}

// runList shows all runs, page by page.
func (p *Page) runList(r *http.Request) (*reply, error) {
	const limit = 50
	filter, organization, err := p.filter(r)
	if err != nil {
		return nil, err
	}
	body := struct {
		organizationFilter
		One           string
		All           bool // ticks that found nothing, too
		Runs          []runRow
		Older, Newest string // paths; "" if there are none
	}{organizationFilter: filter, One: filter.Organization, All: r.URL.Query().Get("all") != ""}
	query := store.RunsQuery{Organization: organization, Idle: body.All, Limit: limit + 1}
	query.Before, _ = strconv.ParseInt(r.URL.Query().Get("before"), 10, 64) // else from the newest
	runs, err := p.runs.get(r.Context(), query)
	if err != nil {
		return nil, err
	}
	if len(runs) > limit {
		runs = runs[:limit]
		body.Older = here(r, "before", strconv.FormatInt(runs[limit-1].ID, 10))
	}
	if query.Before > 0 {
		body.Newest = here(r, "before", "")
	}
	body.Runs = p.runRows(runs)
	return &reply{view: "runs", Title: "Runs", Place: "runs", Body: body}, nil
}
