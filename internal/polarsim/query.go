package polarsim

import (
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/google/uuid"
)

const (
	defaultLimit = 10
	maxLimit     = 100     // larger limits are clamped to it, silently
	maxPage      = 1 << 40 // likewise, so that offsets don't overflow; no list has as many
)

// A query is the list call's parameters.
type query struct {
	filter        filter // without organizations
	organizations []uuid.UUID
	page, limit   int
	sorting       []criterion
}

// parseQuery reads the parameters as the real server does: all mistakes are
// reported together, and unknown parameters are ignored.
func parseQuery(values url.Values) (query, *answer) {
	var p parser
	q := query{
		organizations: p.ids(values, "organization_id"),
		filter: filter{
			customers: p.ids(values, "customer_id"),
			meters:    p.ids(values, "meter_id"),
			external:  values["external_customer_id"],
		},
		page:    p.positive(values, "page", 1, maxPage),
		limit:   p.positive(values, "limit", defaultLimit, maxLimit),
		sorting: p.sorting(values["sorting"]),
	}
	if len(p.problems) > 0 {
		return q, p.invalid()
	}
	return q, nil
}

// A parser collects the entries of a RequestValidationError.
type parser struct{ problems []map[string]any }

func (p *parser) invalid() *answer {
	return jsonAnswer(http.StatusUnprocessableEntity, string(marshal(map[string]any{"error": "RequestValidationError", "detail": p.problems})))
}

func (p *parser) problem(kind, message, input string, loc ...any) {
	p.problems = append(p.problems, map[string]any{"type": kind, "loc": loc, "msg": message, "input": input})
}

func (p *parser) ids(values url.Values, name string) []uuid.UUID {
	var ids []uuid.UUID
	for i, text := range values[name] {
		ids = append(ids, p.id(text, "query", name, i))
	}
	return ids
}

// id accepts what Polar's UUID4 type accepts.
func (p *parser) id(text string, loc ...any) uuid.UUID {
	id, err := uuid.Parse(text)
	if err != nil || id.Version() != 4 {
		p.problem("uuid_parsing", "Input should be a valid UUID of version 4", text, loc...)
	}
	return id
}

// positive reads an integer above 0, of any size as Python does; of several the
// last one counts.
func (p *parser) positive(values url.Values, name string, fallback, most int64) int {
	given := values[name]
	if len(given) == 0 {
		return int(fallback)
	}
	text := given[len(given)-1]
	n, _ := strconv.ParseInt(strings.TrimSpace(text), 10, 64) // 0 for what is none, the largest for what is larger
	if n <= 0 {
		p.problem("greater_than", "Input should be an integer greater than 0", text, "query", name)
	}
	return int(min(n, most))
}

func (p *parser) sorting(given []string) []criterion {
	if len(given) == 0 {
		return []criterion{{property: "modified_at", descending: true}}
	}
	var criteria []criterion
	for i, text := range given {
		property, descending := strings.CutPrefix(text, "-")
		if !slices.Contains(properties(), property) {
			p.problem("enum", "Input should be "+strings.Join(properties(), ", ")+", or one of these after a -", text, "query", "sorting", i)
			continue
		}
		criteria = append(criteria, criterion{property: property, descending: descending})
	}
	return criteria
}
