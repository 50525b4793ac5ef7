package main

import (
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
	"pgregory.net/rapid"

	"polarmirror/internal/polarsim"
)

// An answer is what a handler says to a request.
type answer struct {
	Status int
	Header http.Header
	Body   string
}

func ask(t testing.TB, h http.Handler, token, version, target string) answer {
	t.Helper()
	r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, target, nil)
	if token != "" {
		r.Header.Set("Authorization", "Bearer "+token)
	}
	if version != "" {
		r.Header.Set(versionHeader, version)
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	header := w.Result().Header
	header.Del("Date") // net/http adds it to what a real server sends
	return answer{w.Code, header, w.Body.String()}
}

func newTestShelf(rows int) *shelfHandler {
	return &shelfHandler{shelf: newShelf(simulated(rows, usualMeters, polarsim.Options{}))}
}

// assertSameAnswers asks the shelf and the simulation behind it for the same.
func assertSameAnswers(t testing.TB, h *shelfHandler, token, version, target string) {
	t.Helper()
	want, got := ask(t, h.shelf.sim, token, version, target), ask(t, h, token, version, target)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("%s (-simulation +shelf):\n%s", target, diff)
	}
}

func TestShelfAnswersAsTheSimulationByteByByte(t *testing.T) {
	t.Parallel()
	h := newTestShelf(1500)
	chance := rand.New(rand.NewPCG(1, 1))
	rapid.Check(t, func(rt *rapid.T) {
		if rapid.IntRange(0, 9).Draw(rt, "change") == 0 {
			if err := h.shelf.change(rapid.IntRange(0, 40).Draw(rt, "changed"), chance); err != nil {
				rt.Fatal(err)
			}
		}
		query := []string{"organization_id=" + h.shelf.org.ID.String()}
		order := rapid.SampledFrom([]string{oldestFirst, newestFirst, addedOrder, changedOrder, "customer_id,meter_id", "sideways"}).Draw(rt, "order")
		for name := range strings.SplitSeq(order, ",") {
			query = append(query, "sorting="+name)
		}
		limit := rapid.SampledFrom([]int{0, 1, 2, 7, 50, 93, 99, 100, 101, 5000}).Draw(rt, "limit")
		page := rapid.OneOf(rapid.IntRange(0, 20), rapid.IntRange(0, 1600), rapid.Just(1<<62)).Draw(rt, "page")
		for range rapid.SampledFrom([]int{0, 0, 1, 2, 30}).Draw(rt, "customers") {
			row := &h.shelf.rows[rapid.IntRange(0, len(h.shelf.rows)-1).Draw(rt, "customer")]
			query = append(query, "customer_id="+row.CustomerID.String())
		}
		for range rapid.SampledFrom([]int{0, 0, 1, 2}).Draw(rt, "meters") {
			row := &h.shelf.rows[rapid.IntRange(0, len(h.shelf.rows)-1).Draw(rt, "meter")]
			query = append(query, "meter_id="+row.MeterID.String())
		}
		query = append(query, fmt.Sprintf("limit=%d&page=%d", limit, page))
		version := rapid.SampledFrom([]string{"", currentVersion, "2026-04", "2020-01"}).Draw(rt, "version")
		assertSameAnswers(t, h, h.shelf.org.Token, version, listPath+"?"+strings.Join(query, "&"))
	})
}

func TestShelfLeavesEverythingElseToTheSimulation(t *testing.T) {
	t.Parallel()
	h := newTestShelf(1000)
	row := h.shelf.rows[500]
	const order = "&sorting=created_at&sorting=customer_id&sorting=meter_id"
	for name, target := range map[string]string{
		"one row":            listPath + row.ID.String(),
		"no such row":        listPath + uuid.NewString(),
		"no id":              listPath + "nonsense",
		"a redirect":         strings.TrimSuffix(listPath, "/"),
		"a meter":            listPath + "?meter_id=" + row.MeterID.String() + order,
		"a customer":         listPath + "?customer_id=" + row.CustomerID.String() + order,
		"no such customer":   listPath + "?customer_id=" + row.MeterID.String() + order,
		"no customer's id":   listPath + "?customer_id=7" + order,
		"two organizations":  listPath + "?organization_id=" + h.shelf.org.ID.String() + "&organization_id=" + uuid.NewString() + order,
		"no organization":    listPath + "?limit=3" + order,
		"foreign":            listPath + "?organization_id=" + uuid.NewString() + order,
		"wrong organization": listPath + "?organization_id=7" + order,
		"wrong page":         listPath + "?page=x" + order,
		"two pages":          listPath + "?page=1&page=2" + order,
		"unknown parameter":  listPath + "?color=red" + order,
	} {
		t.Run(name, func(t *testing.T) {
			assertSameAnswers(t, h, h.shelf.org.Token, "", target)
			assertSameAnswers(t, h, "", "", target)
			assertSameAnswers(t, h, "polar_oat_wrong", "", target)
		})
	}
}

func TestChangeMovesThatManyRowsToNow(t *testing.T) {
	t.Parallel()
	const rows, changed = 1000, 10
	h := newTestShelf(rows)
	org := h.shelf.org.ID
	before := h.shelf.sim.Snapshot(org)
	began := time.Now().Truncate(time.Microsecond)
	if err := h.shelf.change(changed, rand.New(rand.NewPCG(1, 2))); err != nil {
		t.Fatal(err)
	}
	after := h.shelf.sim.Snapshot(org)
	moved := 0
	for i, r := range after {
		old := before[i]
		if r.ModifiedAt.Before(began) {
			if diff := cmp.Diff(old, r); diff != "" {
				t.Errorf("a row that was not picked (-before +after):\n%s", diff)
			}
			continue
		}
		moved++
		if r.ID != old.ID || r.Units.Consumed == old.Units.Consumed || r.Units.Balance == old.Units.Balance || r.CreatedAt != old.CreatedAt {
			t.Errorf("changed from %s to %s", old.JSON, r.JSON)
		}
		if text := string(h.shelf.rows[i].AppendTo(nil)); text != r.JSON {
			t.Errorf("rendered: %s, want %s", text, r.JSON)
		}
	}
	if moved != changed {
		t.Errorf("%d rows moved, want %d", moved, changed)
	}
}

func TestSimulatedRowsAreOfPolarsKind(t *testing.T) {
	t.Parallel()
	h := newTestShelf(20_000)
	never, size := h.shelf.measure()
	customers := map[uuid.UUID]bool{}
	for _, r := range h.shelf.rows {
		customers[r.CustomerID] = true
		if limit := time.Now().Add(-23 * time.Hour); r.CreatedAt.After(limit) || r.ModifiedAt.After(limit) {
			t.Errorf("%s moved within the last day", r.ID)
		}
	}
	n := float64(len(h.shelf.rows))
	if share := float64(never) / n; share < 0.57 || share > 0.67 {
		t.Errorf("%.2f of the rows were never modified", share)
	}
	if bytes := float64(size) / n; bytes < 1300 || bytes > 1750 {
		t.Errorf("%.0f bytes a row", bytes)
	}
	if each := n / float64(len(customers)); each != usualMeters {
		t.Errorf("%.2f customer meters a customer", each)
	}
}
