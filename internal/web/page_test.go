package web_test

import (
	"net/http"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"
	"golang.org/x/net/html"

	"polarmirror/internal/pgtest"
	"polarmirror/internal/polarsim"
	"polarmirror/internal/web"
)

func TestFirstPageSaysThatEveryOrganizationIsCurrent(t *testing.T) {
	t.Parallel()
	e := newEnv(t, polarsim.Organization{Name: "acme", CustomerMeters: 250}, polarsim.Organization{Name: "globex", CustomerMeters: 40})
	e.backfill()
	d := complete(t, e.page(), "/")
	if got := text(d.one(tag("h1"))); got != "All organizations are current." {
		t.Errorf("sentence %q", got)
	}
	for _, org := range e.orgs {
		row := d.one(with("data-organization", org.Name))
		cells := find(row, func(n *html.Node) bool { return n.Data == "td" || n.Data == "th" })
		got := text(row)
		for _, want := range []string{org.Name + " Current", "exact (walk)", "full ", "incremental ", "/ 300"} {
			if !strings.Contains(strings.ReplaceAll(got, "\u00a0", " "), want) {
				t.Errorf("%s: %q lacks %q", org.Name, got, want)
			}
		}
		live := e.value(`SELECT count(*)::text FROM polar.customer_meters WHERE organization_id = $1 AND deleted_at IS NULL`, org.ID)
		if got := digits(text(cells[5])); got != live {
			t.Errorf("%s: %s rows, want %s", org.Name, got, live)
		}
		sent := e.value(`SELECT sum(requests)::text FROM polar.sync_runs WHERE organization_id = $1`, org.ID)
		if got := text(cells[6]); got != sent+" / 300" {
			t.Errorf("%s: requests %q, want %s of 300", org.Name, got, sent)
		}
	}
}

// TestPageIsAboutTheConfiguredIDOfALabel has two organizations with one label, of which
// a mistyped id never had a run that succeeded.
func TestPageIsAboutTheConfiguredIDOfALabel(t *testing.T) {
	t.Parallel()
	e := newEnv(t, polarsim.Organization{Name: "acme", CustomerMeters: 30})
	e.backfill()
	mistyped := uuid.MustParse("00000000-0000-4000-8000-000000000001")
	e.exec(`INSERT INTO polar.organizations (id, name) VALUES ($1, 'acme')`, mistyped)
	e.exec(`INSERT INTO polar.sync_runs (organization_id, started_at, finished_at, kind, status, error) VALUES ($1, now(), now(), 'full', 'failed', 'no such id')`, mistyped)
	unheard := uuid.MustParse("00000000-0000-4000-8000-000000000002")
	for _, c := range []struct {
		configured, shown uuid.UUID
		sentence          string
	}{
		{uuid.Nil, e.orgs[0].ID, "acme is current."}, // the one mirrored last
		{e.orgs[0].ID, e.orgs[0].ID, "acme is current."},
		{mistyped, mistyped, "acme has never been mirrored: its runs fail."},
		{unheard, unheard, "acme has not been mirrored yet."},
	} {
		server := e.page(func(o *web.PageOptions) { o.Organizations[0].ID = c.configured })
		for _, path := range []string{"/", "/organizations/acme"} {
			d := ok(t, server, path)
			if got := text(d.one(tag("h1"))); got != c.sentence || len(find(d.root, with("data-organization", "*"))) != 1 {
				t.Errorf("configured %s, %s: %s", c.configured, path, text(d.root))
			}
		}
		var runs []string
		for _, row := range find(ok(t, server, "/organizations/acme").root, with("data-run", "*")) {
			id, _ := attribute(row, "data-run")
			runs = append(runs, id)
		}
		if diff := cmp.Diff(e.values(`SELECT id::text FROM polar.sync_runs WHERE organization_id = $1`, c.shown), runs, cmpopts.EquateEmpty()); diff != "" {
			t.Errorf("configured %s, runs (-SQL +page):\n%s", c.configured, diff)
		}
	}
}

// TestRowsAreCountedAnewOnceAnOrganizationIsMirrored has somebody look at the page
// during the first load.
func TestRowsAreCountedAnewOnceAnOrganizationIsMirrored(t *testing.T) {
	t.Parallel()
	e := newEnv(t, polarsim.Organization{Name: "acme", CustomerMeters: 70})
	page := e.page()
	complete(t, page, "/")
	e.backfill()
	e.eventually("a page that knows of the run", func() bool {
		d := complete(t, page, "/")
		row := d.one(with("data-organization", "acme"))
		if !strings.Contains(text(row), "exact") {
			return false
		}
		cells := find(row, func(n *html.Node) bool { return n.Data == "td" || n.Data == "th" })
		if got := digits(text(cells[5])); got != "70" {
			t.Errorf("the page knows of the run, and of %q rows", got)
		}
		return true
	})
}

func TestRunsTableHoldsWhatSQLSaysAndEachRunOnce(t *testing.T) {
	t.Parallel()
	e := newEnv(t, polarsim.Organization{Name: "acme", CustomerMeters: 300}, polarsim.Organization{Name: "globex", CustomerMeters: 120})
	e.backfill()
	for _, row := range e.sim.Listed(e.orgs[0].ID)[:20] {
		must(e.sim.Consume(row.ID, "1"))
	}
	e.backfill()
	e.exec(`
INSERT INTO polar.sync_runs (organization_id, started_at, finished_at, kind, status, error, retries, rate_limited, rows_deleted, rows_rejected)
VALUES ($1, now(), now(), 'incremental', 'succeeded', NULL, 0, 0, 0, 0),
       ($1, now(), now(), 'incremental', 'failed', 'organization acme: no answer <b>in time</b>', 7, 8, 1234, 9),
       ($1, now(), now(), 'full', 'abandoned', 'stopped', 0, 0, 0, 0)`, e.orgs[0].ID)
	server := e.page()
	const said = `
SELECT format('%s|%s|%s|%s|%s|%s|%s|%s|%s|%s|%s',
       o.name, r.kind,
       CASE WHEN r.status = 'failed' THEN 'Failed' WHEN r.status = 'abandoned' THEN 'Abandoned'
            WHEN r.exact THEN 'Exact (walk)' WHEN NOT r.exact THEN 'Not exact' ELSE 'Done' END,
       r.rows_seen, r.rows_inserted, r.rows_updated, r.rows_deleted, r.rows_rejected, r.requests, r.retries, r.rate_limited)
  FROM polar.sync_runs r
  JOIN polar.organizations o ON o.id = r.organization_id
 WHERE ($1 OR r.kind <> 'incremental' OR r.status <> 'succeeded' OR r.rows_inserted + r.rows_updated + r.rows_deleted + r.rows_rejected > 0)
 ORDER BY r.id DESC`
	for path, idle := range map[string]bool{"/runs": false, "/runs?all=1": true} {
		var got []string
		for _, row := range rows(ok(t, server, path).one(class("runs"))) {
			if len(row) > 1 { // else an error below its run
				row = slices.Delete(row, 3, 5) // when, and how long
				got = append(got, digits(strings.Join(row, "|")))
			}
		}
		if diff := cmp.Diff(e.values(said, idle), got); diff != "" {
			t.Errorf("%s (-SQL +page):\n%s", path, diff)
		}
	}
	d := ok(t, server, "/organizations/acme")
	if got := text(d.one(tag("h1"))); got != "acme is current, but its last incremental run failed." {
		t.Errorf("sentence %q", got)
	}
	errs := find(d.root, class("error"))
	if len(errs) == 0 || !strings.Contains(text(errs[0]), "no answer <b>in time</b>") {
		t.Errorf("the error is not shown as it stands: %d of them", len(errs))
	}
	if all := rows(ok(t, server, "/runs?organization=globex").one(class("runs"))); len(all) != 2 {
		t.Errorf("%d runs of globex, want 2", len(all))
	}

	// Page by page, each run once.
	e.exec(`INSERT INTO polar.sync_runs (organization_id, started_at, finished_at, kind, status) SELECT $1, now(), now(), 'full', 'succeeded' FROM generate_series(1, 130)`, e.orgs[0].ID)
	server = e.page()
	var ids []string
	for path := "/runs?all=1"; path != ""; {
		d := ok(t, server, path)
		for _, tr := range find(d.root, with("data-run", "*")) {
			id, _ := attribute(tr, "data-run")
			ids = append(ids, id)
		}
		path = link(d, "next")
	}
	if want := e.values(`SELECT r.id::text FROM polar.sync_runs r ORDER BY r.id DESC`); !slices.Equal(ids, want) {
		t.Errorf("%d runs on the pages, want %d in their order", len(ids), len(want))
	}
}

// link is where a link with a relation leads; "" if there is none.
func link(d *document, rel string) string {
	for _, a := range find(d.root, with("rel", rel)) {
		if a.Data == "a" {
			path, _ := attribute(a, "href")
			return path
		}
	}
	return ""
}

func TestMeterPageHoldsWhatSQLSays(t *testing.T) {
	t.Parallel()
	e := newEnv(t, polarsim.Organization{Name: "acme", CustomerMeters: 80, Meters: 2})
	e.backfill()
	e.addHistory(9)
	server := e.page()
	for _, meter := range e.sim.Meters(e.orgs[0].ID) {
		d := complete(t, server, "/meters/"+strings.ToUpper(meter.ID.String()))
		var got []string
		for _, row := range rows(d.one(class("days"))) {
			if line := digits(strings.Join(row, "|")); !strings.HasSuffix(line, "|0|0|0") {
				got = append(got, line)
			}
		}
		want := e.values(`
SELECT format('%s|%s|%s|%s', u.day, sum(u.consumed_units), sum(u.credited_units), sum(u.resets))
  FROM polar.usage_daily u
  JOIN polar.customer_meters m ON m.id = u.customer_meter_id
 WHERE m.meter_id = $1
 GROUP BY u.day
HAVING (sum(u.consumed_units), sum(u.credited_units), sum(u.resets)) <> (0, 0, 0)
 ORDER BY u.day DESC`, meter.ID)
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s a day (-SQL +page):\n%s", meter.Name, diff)
		}
		if charts := find(d.root, tag("svg")); len(charts) < 2 {
			t.Errorf("%s: %d drawings, want two charts", meter.Name, len(charts))
		}
		e.checkRanking(d, 0, `SELECT format('%s|%s', customer_id, consumed_units) FROM polar.customer_meters WHERE meter_id = $1 AND consumed_units > 0 ORDER BY consumed_units DESC, customer_id LIMIT 20`, meter.ID)
		e.checkRanking(d, 1, `SELECT format('%s|%s', customer_id, balance) FROM polar.customer_meters WHERE meter_id = $1 AND (consumed_units, credited_units, balance) <> (0, 0, 0) ORDER BY balance, customer_id LIMIT 20`, meter.ID)
	}
}

// checkRanking compares the n-th ranking of a page with what SQL says: who, and
// how much. Equals may stand in any order.
func (e *env) checkRanking(d *document, n int, sql string, args ...any) {
	e.Helper()
	var got []string
	for _, place := range find(find(d.root, class("ranking"))[n], tag("li")) {
		path, _ := attribute(find(place, tag("a"))[0], "href")
		got = append(got, strings.TrimPrefix(path, "/customers/")+"|"+digits(text(find(place, tag("b"))[0])))
	}
	if diff := cmp.Diff(e.values(sql, args...), got); diff != "" {
		e.Errorf("%s, ranking %d (-SQL +page):\n%s", d.path, n, diff)
	}
}

func TestCustomerPageHoldsWhatSQLSays(t *testing.T) {
	t.Parallel()
	e := newEnv(t, polarsim.Organization{Name: "acme", CustomerMeters: 60, Meters: 3})
	e.backfill()
	e.addHistory(55)
	busiest := e.value(`
SELECT m.customer_id::text
  FROM polar.customer_meter_history h JOIN polar.customer_meters m ON m.id = h.customer_meter_id
 GROUP BY m.customer_id ORDER BY count(DISTINCT (h.customer_meter_id, h.consumed_units)) DESC LIMIT 1`)
	e.exec(`
INSERT INTO polar.customer_meter_history (customer_meter_id, organization_id, credited_units, observed_at, deleted, consumed_units, balance, source)
SELECT h.customer_meter_id, h.organization_id, h.credited_units, h.observed_at + interval '1 microsecond', h.deleted, h.consumed_units, h.balance, 'incremental'
  FROM polar.customer_meter_history h`) // states in which nothing changed that is shown
	server := e.page()
	d := ok(t, server, "/customers/"+busiest)
	var balances []string
	for _, card := range find(d.root, class("balance")) {
		balances = append(balances, text(find(card, tag("a"))[0])+"|"+digits(text(find(card, class("figure"))[0]))+"|"+text(find(card, tag("code"))[0]))
		if len(find(card, tag("svg"))) == 0 {
			t.Error("a balance without a chart")
		}
	}
	slices.Sort(balances)
	want := e.values(`SELECT concat_ws('|', t.name, m.balance, m.id) FROM polar.customer_meters m JOIN polar.meters t ON t.id = m.meter_id WHERE m.customer_id = $1`, busiest)
	slices.Sort(want)
	if diff := cmp.Diff(want, balances); diff != "" {
		t.Errorf("balances (-SQL +page):\n%s", diff)
	}
	var changes []string
	for path := "/customers/" + busiest; path != ""; {
		d := ok(t, server, path)
		for _, row := range rows(d.one(class("changes"))) {
			changes = append(changes, digits(strings.Join([]string{row[0], row[1], row[2], row[4], row[6], row[8]}, "|")))
		}
		path, _, _ = strings.Cut(link(d, "next"), "#")
	}
	all := e.values(`
SELECT format('%s|%s|%s|%s|%s|%s', to_char(h.observed_at AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI:SS'), t.name, h.consumed_units, h.credited_units, h.balance, h.source)
  FROM (
      SELECT *, lag((c.consumed_units, c.credited_units)) OVER (PARTITION BY c.customer_meter_id ORDER BY c.observed_at) AS previous
        FROM polar.customer_meter_history c
  ) h
  JOIN polar.customer_meters m ON m.id = h.customer_meter_id
  JOIN polar.meters t ON t.id = m.meter_id
 WHERE m.customer_id = $1
   AND (h.consumed_units, h.credited_units) IS DISTINCT FROM h.previous
 ORDER BY h.observed_at DESC, h.customer_meter_id`, busiest)
	if diff := cmp.Diff(all, changes); diff != "" || len(all) < 51 {
		t.Errorf("%d changes (-SQL +page):\n%s", len(all), diff)
	}
}

func TestCustomerPageShowsAllThatWasSeenAtOneMoment(t *testing.T) {
	t.Parallel()
	e := newEnv(t, polarsim.Organization{Name: "acme", CustomerMeters: 120, Meters: 60, EveryMeter: true})
	e.backfill()
	e.exec(`UPDATE polar.customer_meter_history SET observed_at = date_trunc('second', now())`) // of blocks that were written side by side
	customer := e.value(`SELECT customer_id::text FROM polar.customer_meters LIMIT 1`)
	server, shown := e.page(), 0
	if body := text(ok(t, server, "/customers/"+customer).root); strings.Contains(body, "No history") {
		t.Error("meters without a chart are said to have no history")
	}
	for path := "/customers/" + customer; path != ""; {
		d := ok(t, server, path)
		shown += len(rows(d.one(class("changes"))))
		path, _, _ = strings.Cut(link(d, "next"), "#")
	}
	if want := e.value(`SELECT count(*)::text FROM polar.customer_meters WHERE customer_id = $1`, customer); want != strconv.Itoa(shown) || shown < 51 {
		t.Errorf("%d changes are shown, want %s", shown, want)
	}
}

func TestListsOfAnOrganizationThatIsNotMirroredYetAreEmpty(t *testing.T) {
	t.Parallel()
	e := newEnv(t, polarsim.Organization{Name: "acme", CustomerMeters: 5})
	server := e.page()
	if d := ok(t, server, "/organizations/acme"); find(d.root, with("href", "/runs?organization=acme")) == nil {
		t.Error("no link to its runs")
	}
	for path, want := range map[string]string{"/runs?organization=acme": "No runs yet.", "/customers?organization=acme": "No customers here."} {
		if d := ok(t, server, path); !strings.Contains(text(d.root), want) {
			t.Errorf("%s does not say %q", path, want)
		}
	}
}

func TestOrganizationPageLeadsToEveryMeter(t *testing.T) {
	t.Parallel()
	e := newEnv(t, polarsim.Organization{Name: "acme", CustomerMeters: 30, Meters: 30, EveryMeter: true})
	e.backfill()
	d := complete(t, e.page(), "/organizations/acme")
	for _, id := range e.values(`SELECT id::text FROM polar.meters`) {
		if find(d.root, with("href", "/meters/"+id)) == nil {
			t.Errorf("no link to meter %s", id)
		}
	}
}

// values runs a query that returns one column of texts.
func (e *env) values(sql string, args ...any) []string {
	e.Helper()
	result, err := e.db.Pool.Query(e.Context(), sql, args...)
	if err != nil {
		e.Fatal(err)
	}
	list, err := pgx.CollectRows(result, pgx.RowTo[string])
	if err != nil {
		e.Fatalf("%s: %v", sql, err)
	}
	return list
}

func TestPageWithoutDatabaseSaysSo(t *testing.T) {
	t.Parallel()
	e := newEnv(t, polarsim.Organization{Name: "acme", CustomerMeters: 5})
	e.backfill()
	broken := pgtest.OpenStore(t, e.db)
	core, logs := observer.New(zap.ErrorLevel)
	server := e.page(func(o *web.PageOptions) { o.Store, o.Log = broken, zap.New(core) })
	broken.Close()
	for _, path := range []string{"/", "/live", "/customers", "/runs", "/organizations/acme"} {
		d := get(t, server, path)
		if d.status != http.StatusServiceUnavailable || text(d.one(tag("h1"))) != "The database does not answer." {
			t.Errorf("GET %s: %d %s", path, d.status, text(d.root))
		}
	}
	if n := logs.FilterMessage("page failed").Len(); n != 1 {
		t.Errorf("the log says so %d times, want once a minute", n)
	}
}
