package main

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
	"pgregory.net/rapid"
)

// An answer is what a handler says to a request.
type answer struct {
	Status int
	Header http.Header
	Body   string
}

func ask(t testing.TB, h http.Handler, token, version, query string) answer {
	t.Helper()
	r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, query, nil)
	r.Header.Set("Authorization", "Bearer "+token)
	if version != "" {
		r.Header.Set(versionHeader, version)
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	header := w.Result().Header
	header.Del("Date") // net/http adds it to what a real server sends
	return answer{w.Code, header, w.Body.String()}
}

// assertSameAnswers asks the rendered pages and the simulation behind them for the
// same.
func assertSameAnswers(t testing.TB, p *polar, token, version, target string) {
	t.Helper()
	p.sim.ForgetCost()
	want, charged := ask(t, p.sim, token, version, target), p.sim.Cost()
	p.begin(1)
	got, cost := ask(t, p, token, version, target), p.costs()
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("%s (-simulation +rendered):\n%s", target, diff)
	}
	if cost.requests != 1 || cost.skippedRows != charged.SkippedRows || cost.statements != charged.Statements {
		t.Errorf("%s costs %+v, and %+v by the simulation", target, cost, charged)
	}
}

func TestRenderedPagesAreAndCostWhatTheSimulationsDo(t *testing.T) {
	t.Parallel()
	p := newPolar(1500, usualMeters)
	rapid.Check(t, func(rt *rapid.T) {
		if rapid.IntRange(0, 9).Draw(rt, "change") == 0 {
			if err := p.change(rapid.IntRange(0, 40).Draw(rt, "changed")); err != nil {
				rt.Fatal(err)
			}
		}
		query := []string{"organization_id=" + p.org.ID.String()}
		order := rapid.SampledFrom([]string{oldestFirst, newestFirst, "-created_at,customer_id,meter_id", "customer_id,meter_id", "sideways"}).Draw(rt, "order")
		for name := range strings.SplitSeq(order, ",") {
			query = append(query, "sorting="+name)
		}
		limit := rapid.SampledFrom([]int{0, 1, 2, 7, 50, 93, 99, 100, 101, 5000}).Draw(rt, "limit")
		page := rapid.OneOf(rapid.IntRange(0, 20), rapid.IntRange(0, 1600), rapid.Just(1<<62)).Draw(rt, "page")
		id := func(ofWhat map[string][]int) string {
			ids := make([]string, 0, len(ofWhat))
			for id := range ofWhat {
				ids = append(ids, id)
			}
			return rapid.SampledFrom(ids).Draw(rt, "id")
		}
		for range rapid.SampledFrom([]int{0, 0, 1, 2, 30}).Draw(rt, "customers") {
			query = append(query, "customer_id="+id(p.ofCustomer))
		}
		for range rapid.SampledFrom([]int{0, 0, 1, 2}).Draw(rt, "meters") {
			query = append(query, "meter_id="+id(p.ofMeter))
		}
		query = append(query, fmt.Sprintf("limit=%d&page=%d", limit, page))
		asked := rapid.SampledFrom([]string{"", version, "2026-04", "2020-01"}).Draw(rt, "version")
		assertSameAnswers(t, p, p.org.Token, asked, listPath+"?"+strings.Join(query, "&"))
	})
}

func TestSimulationAnswersWhatIsNotRendered(t *testing.T) {
	t.Parallel()
	p := newPolar(1000, usualMeters)
	org, unknown := "organization_id="+p.org.ID.String(), uuid.NewString()
	const rest = "&limit=100&page=1&sorting=created_at&sorting=customer_id&sorting=meter_id"
	for name, query := range map[string]string{
		"no such customer":   org + "&customer_id=" + unknown + rest,
		"no customer's id":   org + "&customer_id=7" + rest,
		"two organizations":  org + "&organization_id=" + unknown + rest,
		"no organization":    strings.TrimPrefix(rest, "&"),
		"foreign":            "organization_id=" + unknown + rest,
		"wrong organization": "organization_id=7" + rest,
		"wrong page":         org + "&page=x&limit=100",
		"two pages":          org + "&page=2" + rest,
		"unknown parameter":  org + "&color=red" + rest,
	} {
		t.Run(name, func(t *testing.T) {
			assertSameAnswers(t, p, p.org.Token, "", listPath+"?"+query)
			if got := ask(t, p, "polar_oat_wrong", "", listPath+"?"+query); got.Status != http.StatusUnauthorized {
				t.Errorf("with a wrong token: %d %s", got.Status, got.Body)
			}
		})
	}
	p.begin(1)
	id := p.rows[500].id.String()
	if got := ask(t, p, p.org.Token, "", listPath+id); got.Status != http.StatusOK || got.Body != p.rows[500].json {
		t.Errorf("one row: %+v", got)
	}
}

func TestRequestTakesItsShareOfTheLimitOrOfTheStatementsInFlight(t *testing.T) {
	t.Parallel()
	p := &polar{}
	p.begin(8)
	p.charge(0, time.Millisecond)
	p.charge(0, 800*time.Millisecond)  // 100 ms
	p.charge(7, 8000*time.Millisecond) // 1 s
	want := cost{requests: 3, skippedRows: 7, statements: 8801 * time.Millisecond, takes: 2*120*time.Millisecond + time.Second}
	if got := p.costs(); got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
}

func TestSimulatedRowsAreOfPolarsKind(t *testing.T) {
	t.Parallel()
	p := newPolar(5000, usualMeters)
	never, size := 0, 0
	for r := range p.sim.All(p.org.ID) {
		size += len(r.JSON)
		if r.ModifiedAt.IsZero() {
			never++
		}
		if limit := time.Now().Add(-23 * time.Hour); r.CreatedAt.After(limit) || r.ModifiedAt.After(limit) {
			t.Errorf("%s moved within the last day", r.ID)
		}
	}
	n := float64(len(p.rows))
	if share := float64(never) / n; share < 0.57 || share > 0.67 {
		t.Errorf("%.2f of the rows were never modified", share)
	}
	if bytes := float64(size) / n; bytes < 1300 || bytes > 1750 {
		t.Errorf("%.0f bytes a row", bytes)
	}
	if each := n / float64(len(p.ofCustomer)); each != usualMeters {
		t.Errorf("%.2f customer meters a customer", each)
	}
}
