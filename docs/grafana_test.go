package docs

import (
	"encoding/json"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"
)

// TestBusinessDashboardShowsRowsInEveryPanel asks what Grafana asks, as the role
// that the compose file makes for it: before anything is mirrored, and then.
func TestBusinessDashboardShowsRowsInEveryPanel(t *testing.T) {
	t.Parallel()
	w := newEnv(t)
	grants, role := grafanaGrants(t)
	createRole(t, w.db, grants, role)
	w.stopClock(present(), role)
	conn := w.connectAs(role, testPassword)
	defer conn.Close(t.Context())
	for title, answer := range askPanels(t, conn) {
		if strings.Count(answer, "\n") > 3 {
			t.Errorf("%s: shows something of nothing:\n%s", title, answer)
		}
	}
	w.look(w.clock)
	for _, at := range []time.Time{present().AddDate(0, 0, -5), present().AddDate(0, 0, -1)} {
		w.happen(at)
		w.look(at)
	}
	answers := askPanels(t, conn)
	for title, answer := range answers {
		if strings.Count(answer, "\n") < 3 || strings.HasSuffix(answer, "\n\n") {
			t.Errorf("%s: shows nothing:\n%s", title, answer)
		}
	}
	if len(answers) < 7 {
		t.Errorf("%d panels, want 7 or more", len(answers))
	}
	mustExec(t, w.db.Pool, `INSERT INTO polar.organizations (id, name) VALUES (gen_random_uuid(), 'new')`)
	if age := askPanels(t, conn)["Age of the data"]; !strings.Contains(age, "Infinity") {
		t.Errorf("an organization was never mirrored, and the data is called fresh:\n%s", age)
	}
}

// askPanels returns the answer to each panel's query, by title.
func askPanels(t *testing.T, conn *pgx.Conn) map[string]string {
	t.Helper()
	var board struct {
		Templating struct {
			List []struct{ Name, Type, Query string }
		}
		Panels []struct {
			Title, Type string
			Targets     []struct{ RawSQL string }
		}
	}
	if err := json.Unmarshal([]byte(readDeployed(t, "business.json")), &board); err != nil {
		t.Fatal(err)
	}
	// As Grafana writes them.
	values := []string{"$__timeFrom()", "'2026-02-16T12:00:00Z'", "$__timeTo()", "'2026-03-18T12:00:00Z'"}
	for _, v := range board.Templating.List {
		if v.Type != "query" {
			continue
		}
		rows, err := conn.Query(t.Context(), strings.NewReplacer(values...).Replace(v.Query))
		if err != nil {
			t.Fatalf("variable %s: %v", v.Name, err)
		}
		chosen, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (string, error) {
			columns, err := row.Values()
			if err != nil {
				return "", err
			}
			return columns[len(columns)-1].(string), nil // __value, or the only column
		})
		if err != nil || len(chosen) == 0 {
			t.Fatalf("variable %s: %d values (%v)", v.Name, len(chosen), err)
		}
		values = append(values, "${"+v.Name+":sqlstring}", "'"+strings.Join(chosen, "','")+"'")
	}
	answers := map[string]string{}
	for _, p := range board.Panels {
		if p.Type == "row" {
			continue
		}
		if len(p.Targets) != 1 {
			t.Errorf("%s: %d queries, want 1", p.Title, len(p.Targets))
			continue
		}
		sql := strings.NewReplacer(values...).Replace(p.Targets[0].RawSQL)
		if sql == p.Targets[0].RawSQL || strings.Contains(sql, "$") {
			t.Errorf("%s: heeds no variable, or one that this test doesn't know:\n%s", p.Title, sql)
			continue
		}
		answer, err := ask(t, conn, sql)
		if err != nil {
			t.Errorf("%s: %v", p.Title, err)
		}
		answers[p.Title] = answer
	}
	return answers
}

func TestGrafanaHasTheRightsOfAnAnalyst(t *testing.T) {
	t.Parallel()
	grants, role := grafanaGrants(t)
	_, got, _ := strings.Cut(grants, "$$;\n")
	analyst, name := statements(t, "A read-only role for analysts", "analyst")
	_, want, _ := strings.Cut(strings.ReplaceAll(analyst, name, role), " LOGIN;\n")
	if diff := cmp.Diff(want, strings.TrimSpace(got)+"\n"); diff != "" {
		t.Errorf("grants.sql differs from security.md:\n%s", diff)
	}
}

// grafanaGrants returns the SQL of grants.sql for a role that no other test has,
// up to where psql takes the password from the environment.
func grafanaGrants(t testing.TB) (sql, role string) {
	t.Helper()
	sql, _, _ = strings.Cut(readDeployed(t, "grants.sql"), `\getenv`)
	return withOwnRole(sql, "grafana")
}

func readDeployed(t testing.TB, name string) string {
	t.Helper()
	text, err := os.ReadFile("../deploy/grafana/" + name)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}
