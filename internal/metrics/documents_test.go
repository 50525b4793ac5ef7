package metrics

import (
	"encoding/json"
	"fmt"
	"os"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/goccy/go-yaml"
	"github.com/google/go-cmp/cmp"
	dto "github.com/prometheus/client_model/go"
)

// A documented metric or an existing one: its type and its labels.
type shape struct{ kind, labels string }

// existing are all metrics, by name.
func existing(t testing.TB) map[string]shape {
	t.Helper()
	shapes := map[string]shape{}
	for name, family := range gather(t, touched(t)) {
		s := shape{kind: strings.ToLower(family.GetType().String())}
		var names []string
		for _, m := range family.Metric {
			for _, l := range m.Label {
				if !slices.Contains(names, l.GetName()) {
					names = append(names, l.GetName())
				}
			}
		}
		slices.Sort(names)
		s.labels = strings.Join(names, " ")
		shapes[name] = s
	}
	return shapes
}

func readFile(t testing.TB, path string) string {
	t.Helper()
	body, err := os.ReadFile("../../" + path)
	if err != nil {
		t.Fatal(err)
	}
	return string(body)
}

var metricRow = regexp.MustCompile("(?m)^\\| `(syncd_[a-z_]+)` \\| ([a-z]+) \\|([^|]*)\\| ([^|]+) \\|[^|]*\\|$")

func TestEveryMetricIsDocumentedAsItIs(t *testing.T) {
	t.Parallel()
	text := readFile(t, "docs/operations.md")
	documented := map[string]shape{}
	for _, row := range metricRow.FindAllStringSubmatch(text, -1) {
		names := strings.FieldsFunc(row[3], func(r rune) bool { return strings.ContainsRune("`, ", r) })
		slices.Sort(names)
		if _, twice := documented[row[1]]; twice {
			t.Errorf("%s is documented twice", row[1])
		}
		documented[row[1]] = shape{row[2], strings.Join(names, " ")}
	}
	real := existing(t)
	if runtime.GOOS != "linux" {
		for name := range documented {
			if _, ok := real[name]; !ok && strings.HasPrefix(name, "syncd_process_") {
				delete(documented, name)
			}
		}
	}
	if d := cmp.Diff(real, documented, cmp.AllowUnexported(shape{})); d != "" {
		t.Errorf("(-existing +docs/operations.md):\n%s", d)
	}
	for _, name := range regexp.MustCompile(`syncd_[a-z_]*[a-z]\b`).FindAllString(text, -1) {
		if _, ok := real[name]; !ok && !isGroup(name, real) {
			t.Errorf("docs/operations.md speaks of %s, which does not exist", name)
		}
	}
	var processed []string
	for _, outcome := range processingOutcomes() {
		processed = append(processed, string(outcome))
	}
	for name, outcomes := range map[string][]string{
		"syncd_webhook_deliveries_total": {"accepted", "duplicate", "forged", "too_old", "malformed", "too_large", "wrong_method", "unavailable"},
		"syncd_webhook_events_total":     processed,
	} {
		row := regexp.MustCompile("(?m)^\\| `" + name + "` .*$").FindString(text)
		for _, outcome := range outcomes {
			if !strings.Contains(row, "`"+outcome+"`") {
				t.Errorf("outcome %s of %s is not documented", outcome, name)
			}
		}
	}
}

// isGroup reports whether name is what several metrics begin with.
func isGroup(name string, real map[string]shape) bool {
	n := 0
	for each := range real {
		if strings.HasPrefix(each, name+"_") {
			n++
		}
	}
	return n > 1 || name == "syncd_token" || name == "syncd_password" // files of the examples
}

var (
	selector = regexp.MustCompile(`\b(syncd_\w+)(?:\{((?:"(?:[^"\\]|\\.)*"|[^"}])*)\})?`) // name and matchers
	matcher  = regexp.MustCompile(`(\w+)\s*(?:=~|!~|!=|=)\s*"`)
)

// checkExpression fails unless every selector of a PromQL expression names a
// metric and labels that exist. CI has promtool parse the expressions.
func checkExpression(t testing.TB, where, text string, real map[string]shape) {
	t.Helper()
	selectors := selector.FindAllStringSubmatch(text, -1)
	if len(selectors) == 0 {
		t.Errorf("%s: %s asks for nothing", where, text)
	}
	for _, found := range selectors {
		name := found[1]
		known, ok := real[name]
		for _, suffix := range []string{"_bucket", "_sum", "_count"} {
			if base, cut := strings.CutSuffix(name, suffix); cut && real[base].kind == "histogram" {
				known, ok = real[base], true
			}
		}
		if !ok {
			t.Errorf("%s: there is no metric %s", where, name)
		}
		for _, m := range matcher.FindAllStringSubmatch(found[2], -1) {
			if !slices.Contains(strings.Fields(known.labels), m[1]) {
				t.Errorf("%s: %s has no label %s", where, name, m[1])
			}
		}
	}
}

func TestRulesAskForWhatExistsAndAreExplained(t *testing.T) {
	t.Parallel()
	var file struct {
		Groups []struct {
			Name  string
			Rules []struct {
				Alert, Expr, For    string
				Labels, Annotations map[string]string
			}
		}
	}
	if err := yaml.UnmarshalWithOptions([]byte(readFile(t, "deploy/prometheus/syncd.rules.yml")), &file, yaml.Strict()); err != nil {
		t.Fatal(err)
	}
	documents, tests := readFile(t, "docs/operations.md"), readFile(t, "deploy/prometheus/syncd.rules.test.yml")
	var got, want []string
	for _, group := range file.Groups {
		for _, rule := range group.Rules {
			got = append(got, rule.Alert+" "+rule.Labels["severity"])
			checkExpression(t, rule.Alert, rule.Expr, existing(t))
			if rule.Annotations["summary"] == "" || rule.Annotations["description"] == "" {
				t.Errorf("%s: no summary or description", rule.Alert)
			}
			if !strings.Contains(tests, rule.Alert) {
				t.Errorf("%s: not in syncd.rules.test.yml", rule.Alert)
			}
		}
	}
	for _, row := range regexp.MustCompile("(?m)^\\| `(Syncd[A-Za-z]+)` \\| ([a-z]+) \\| ").FindAllStringSubmatch(documents, -1) {
		want = append(want, row[1]+" "+row[2])
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("(-docs/operations.md +syncd.rules.yml):\n%s", d)
	}
	for _, name := range regexp.MustCompile(`Syncd[A-Z][A-Za-z]+`).FindAllString(documents, -1) {
		if !slices.ContainsFunc(got, func(alert string) bool { return strings.HasPrefix(alert, name+" ") }) {
			t.Errorf("docs/operations.md speaks of %s, which does not exist", name)
		}
	}
}

func TestDashboardAsksForWhatExists(t *testing.T) {
	t.Parallel()
	type panel struct {
		ID      int
		Type    string
		Title   string
		GridPos struct{ H, W, X, Y int }
		Targets []struct {
			Expr       string
			RefID      string
			Datasource struct{ UID string }
		}
	}
	var board struct {
		Title, UID string
		Panels     []panel
		Templating struct {
			List []struct{ Name, Type, Definition string }
		}
	}
	if err := json.Unmarshal([]byte(readFile(t, "deploy/grafana/syncd.json")), &board); err != nil {
		t.Fatal(err)
	}
	real, ids, cells, asked := existing(t), map[int]bool{}, map[[2]int]string{}, ""
	for _, p := range board.Panels {
		if ids[p.ID] || p.Title == "" {
			t.Errorf("panel %d %q: its number is taken, or it has no title", p.ID, p.Title)
		}
		ids[p.ID] = true
		for x := p.GridPos.X; x < p.GridPos.X+p.GridPos.W; x++ {
			for y := p.GridPos.Y; y < p.GridPos.Y+p.GridPos.H; y++ {
				if other := cells[[2]int{x, y}]; other != "" || x > 23 {
					t.Fatalf("panel %q lies over %q or beyond the edge", p.Title, other)
				}
				cells[[2]int{x, y}] = p.Title
			}
		}
		if p.Type != "row" && len(p.Targets) == 0 {
			t.Errorf("panel %q shows nothing", p.Title)
		}
		for _, target := range p.Targets {
			if target.Datasource.UID != "${datasource}" {
				t.Errorf("panel %q asks source %q, which others do not have", p.Title, target.Datasource.UID)
			}
			checkExpression(t, fmt.Sprintf("panel %q", p.Title), strings.ReplaceAll(target.Expr, "$__rate_interval", "5m"), real)
			asked += target.Expr
		}
	}
	for name := range real {
		if ours := !strings.HasPrefix(name, "syncd_process_") && !strings.HasPrefix(name, "syncd_go_"); ours && !strings.Contains(asked, name) &&
			!slices.Contains([]string{"syncd_database_acquires_total", "syncd_database_acquire_waits_total", "syncd_database_acquires_canceled_total", "syncd_http_request_duration_seconds"}, name) {
			t.Errorf("the dashboard shows nothing of %s", name)
		}
	}
	if len(board.Templating.List) != 2 || !strings.Contains(board.Templating.List[1].Definition, "syncd_data_age_seconds, organization") {
		t.Errorf("variables %+v", board.Templating.List)
	}
}

func TestScrapeExampleNamesTheRules(t *testing.T) {
	t.Parallel()
	var file struct {
		RuleFiles     []string `yaml:"rule_files"`
		ScrapeConfigs []struct {
			JobName        string                       `yaml:"job_name"`
			ScrapeInterval string                       `yaml:"scrape_interval"`
			Authorization  map[string]string            `yaml:"authorization"`
			StaticConfigs  []struct{ Targets []string } `yaml:"static_configs"`
		} `yaml:"scrape_configs"`
	}
	if err := yaml.UnmarshalWithOptions([]byte(readFile(t, "deploy/prometheus/prometheus.yml")), &file, yaml.Strict()); err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff([]string{"syncd.rules.yml"}, file.RuleFiles); d != "" || len(file.ScrapeConfigs) != 1 || file.ScrapeConfigs[0].StaticConfigs[0].Targets[0] != "127.0.0.1:8080" {
		t.Errorf("%+v", file)
	}
}

// labelled returns the value of the one series with these labels.
func labelled(family *dto.MetricFamily, want map[string]string) (float64, bool) {
	for _, m := range family.GetMetric() {
		got := map[string]string{}
		for _, l := range m.Label {
			got[l.GetName()] = l.GetValue()
		}
		if cmp.Equal(want, got) {
			switch {
			case m.Counter != nil:
				return m.Counter.GetValue(), true
			case m.Gauge != nil:
				return m.Gauge.GetValue(), true
			case m.Histogram != nil:
				return float64(m.Histogram.GetSampleCount()), true
			}
		}
	}
	return 0, false
}
