package web

import (
	"net/http"
	"strconv"
	"time"

	"polarmirror/internal/store"
)

// A result is what became of a run, as a word and as a class: good, doubt, bad, busy
// or idle.
type result struct{ Class, Word string }

func resultOf(r store.RunRecord) result {
	switch {
	case r.Status == "running":
		return result{"busy", "Running"}
	case r.Status == "failed":
		return result{"bad", "Failed"}
	case r.Status == "abandoned":
		return result{"idle", "Abandoned"}
	case r.Exact == nil:
		return result{"good", "Done"}
	case *r.Exact && r.Method == "":
		return result{"good", "Exact"}
	case *r.Exact:
		return result{"good", "Exact (" + string(r.Method) + ")"}
	default:
		return result{"doubt", "Not exact"}
	}
}

// duration is how long a run took, or takes so far.
func duration(r store.RunRecord) string {
	if r.FinishedAt.IsZero() {
		return span(max(time.Since(r.StartedAt), 0)) + " so far"
	}
	return span(max(r.FinishedAt.Sub(r.StartedAt), 0)) // a clock may have been set back meanwhile
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
		One   string
		All   bool // ticks that found nothing, too
		Runs  []store.RunRecord
		Pages pages
	}{organizationFilter: filter, One: filter.Organization, All: r.URL.Query().Get("all") != ""}
	query := store.RunsQuery{Organization: organization, Idle: body.All, Limit: limit + 1}
	query.Before, _ = strconv.ParseInt(r.URL.Query().Get("before"), 10, 64) // else from the newest
	if body.Runs, err = p.runs.get(r.Context(), query); err != nil {
		return nil, err
	}
	body.Pages = pageLinks(r, "before", "", body.Runs, limit, func(run store.RunRecord) string { return strconv.FormatInt(run.ID, 10) })
	body.Runs = body.Runs[:min(len(body.Runs), limit)]
	return &reply{view: "run-list", Title: "Runs", Place: "runs", Body: body}, nil
}
