package polarsim

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/google/uuid"
)

const (
	defaultLimit = 10
	maxLimit     = 100 // larger limits are clamped to it, silently
)

// A query is the list call's parameters.
type query struct {
	filter        filter // without organizations
	organizations []uuid.UUID
	page, limit   int
	sorting       []criterion
}

// A problem is one entry of a RequestValidationError.
type problem struct {
	Type  string         `json:"type"`
	Loc   []any          `json:"loc"`
	Msg   string         `json:"msg"`
	Input any            `json:"input"`
	Ctx   map[string]any `json:"ctx,omitempty"`
}

func invalid(problems []problem) *answer {
	body, err := json.Marshal(map[string]any{"error": "RequestValidationError", "detail": problems})
	if err != nil { // strings and numbers always marshal
		body = []byte(err.Error())
	}
	return newAnswer(http.StatusUnprocessableEntity, "application/json", body)
}

// parseQuery reads the parameters as the real server does: all mistakes are
// reported together, and unknown parameters are ignored.
func parseQuery(values url.Values) (query, []problem) {
	var p parser
	q := query{
		organizations: p.ids(values, "organization_id"),
		filter: filter{
			customers: p.ids(values, "customer_id"),
			meters:    p.ids(values, "meter_id"),
			external:  values["external_customer_id"],
		},
		page:  p.positive(values, "page", 1),
		limit: min(p.positive(values, "limit", defaultLimit), maxLimit),
	}
	q.sorting = p.sorting(values["sorting"])
	return q, p.problems
}

type parser struct{ problems []problem }

func (p *parser) ids(values url.Values, name string) []uuid.UUID {
	var ids []uuid.UUID
	for i, text := range values[name] {
		id, found := parseID(text, "query", name, i)
		if found != nil {
			p.problems = append(p.problems, *found)
		}
		ids = append(ids, id)
	}
	return ids
}

// parseID accepts what Polar's UUID4 type accepts.
func parseID(text string, loc ...any) (uuid.UUID, *problem) {
	id, err := uuid.Parse(text)
	if err != nil {
		return id, &problem{Type: "uuid_parsing", Loc: loc, Input: text,
			Msg: "Input should be a valid UUID, " + err.Error(), Ctx: map[string]any{"error": err.Error()}}
	}
	if id.Version() != 4 {
		return id, &problem{Type: "uuid_version", Loc: loc, Input: text,
			Msg: "UUID version 4 expected", Ctx: map[string]any{"expected_version": 4}}
	}
	return id, nil
}

// positive reads an integer above 0; of several the last one counts.
func (p *parser) positive(values url.Values, name string, fallback int) int {
	given := values[name]
	if len(given) == 0 {
		return fallback
	}
	text := given[len(given)-1]
	loc := []any{"query", name}
	n, err := strconv.Atoi(strings.TrimSpace(text))
	if errors.Is(err, strconv.ErrRange) && n > 0 {
		n, err = math.MaxInt, nil // Python's integers have no end
	}
	if err != nil && !errors.Is(err, strconv.ErrRange) {
		p.problems = append(p.problems, problem{Type: "int_parsing", Loc: loc, Input: text,
			Msg: "Input should be a valid integer, unable to parse string as an integer"})
		return fallback
	}
	if n <= 0 {
		p.problems = append(p.problems, problem{Type: "greater_than", Loc: loc, Input: text,
			Msg: "Input should be greater than 0", Ctx: map[string]any{"gt": 0}})
		return fallback
	}
	return n
}

func (p *parser) sorting(given []string) []criterion {
	if len(given) == 0 {
		return []criterion{{property: "modified_at", descending: true}}
	}
	var criteria []criterion
	for i, text := range given {
		property, descending := strings.CutPrefix(text, "-")
		if !slices.Contains(properties(), property) {
			expected := expectedSorting()
			p.problems = append(p.problems, problem{Type: "enum", Loc: []any{"query", "sorting", i}, Input: text,
				Msg: "Input should be " + expected, Ctx: map[string]any{"expected": expected}})
			continue
		}
		criteria = append(criteria, criterion{property: property, descending: descending})
	}
	return criteria
}

func expectedSorting() string {
	var quoted []string
	for _, property := range properties() {
		quoted = append(quoted, fmt.Sprintf("'%s'", property), fmt.Sprintf("'-%s'", property))
	}
	last := len(quoted) - 1
	return strings.Join(quoted[:last], ", ") + " or " + quoted[last]
}
