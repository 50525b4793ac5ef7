package config

import (
	"fmt"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/goccy/go-yaml/ast"
	"github.com/google/go-cmp/cmp"
)

// contractKeys is every key that users may rely on.
var contractKeys = strings.Fields(`
	polar polar.base_url polar.api_version polar.requests_per_minute polar.concurrency polar.timeout polar.retry
	polar.retry.initial_interval polar.retry.max_interval polar.retry.exponent polar.retry.max_elapsed_time polar.retry.retry_connection_errors
	organizations organizations.name organizations.id organizations.access_token organizations.access_token_file
	organizations.webhook_secret organizations.webhook_secret_file organizations.filter
	organizations.filter.customer_id organizations.filter.external_customer_id organizations.filter.meter_id
	database database.url database.data_dir database.max_connections
	schedule schedule.incremental schedule.full schedule.timezone schedule.run_on_start
	sync sync.concurrency sync.max_delete_fraction
	history history.keep
	privacy privacy.exclude
	http http.listen http.webhook_listen http.max_lag http.hosts
	http.token http.token_file http.user http.password http.password_file
	heartbeat_url
	log log.level log.format`)

func readExample(t testing.TB) string {
	t.Helper()
	text, err := os.ReadFile("../../config.example.yaml")
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// pathsOf collects the paths of all keys below node.
func pathsOf(node ast.Node, path string, keys map[string]bool) {
	switch n := node.(type) {
	case *ast.MappingNode:
		for _, pair := range n.Values {
			key := strings.TrimPrefix(path+"."+pair.Key.GetToken().Value, ".")
			keys[key] = true
			pathsOf(pair.Value, key, keys)
		}
	case *ast.SequenceNode:
		for _, element := range n.Values {
			pathsOf(element, path, keys)
		}
	}
}

func TestExampleStatesTheDefaults(t *testing.T) {
	t.Parallel()
	w := newEnv(readExample(t))
	w.env = map[string]string{"POLAR_ACCESS_TOKEN": canary}
	got, err := w.load()
	if err != nil {
		t.Fatal(err)
	}
	if d := diff(defaults(), got); d != "" {
		t.Errorf("(-defaults +example):\n%s", d)
	}
	if warnings := got.Warnings(); len(warnings) != 0 {
		t.Errorf("the example warns: %q", warnings)
	}
}

func TestExampleShowsEveryKey(t *testing.T) {
	t.Parallel()
	text := readExample(t)
	body, problem := parse([]byte(text))
	if problem != nil {
		t.Fatal(problem)
	}
	keys := map[string]bool{}
	pathsOf(body, "", keys)
	for _, commented := range []string{ // the other way to say the same
		"organizations.access_token_file", "organizations.webhook_secret_file", "http.token_file", "http.password_file",
	} {
		_, key, _ := strings.Cut(commented, ".")
		if strings.Contains(text, "#   "+key+": /") {
			keys[commented] = true
		}
	}
	var got []string
	for key := range keys {
		got = append(got, key)
	}
	want := slices.Clone(contractKeys)
	slices.Sort(got)
	slices.Sort(want)
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("(-contract +example):\n%s", d)
	}
}

func TestStructsHaveTheKeysOfTheContract(t *testing.T) {
	t.Parallel()
	want := map[string]bool{}
	for _, path := range contractKeys {
		want[path[strings.LastIndex(path, ".")+1:]] = true
	}
	got := map[string]bool{}
	var collect func(reflect.Type)
	collect = func(section reflect.Type) {
		for name, key := range keysOf(section) {
			got[name] = true
			below := section.Field(key.index).Type
			if below.Kind() == reflect.Slice {
				below = below.Elem()
			}
			if isSection(below) {
				collect(below)
			}
		}
	}
	collect(reflect.TypeFor[Config]())
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("(-contract +structs):\n%s", d)
	}
}

// What commenting out shows: any section may be left out of the example.
func TestExampleLoadsWithoutAnySection(t *testing.T) {
	t.Parallel()
	text := readExample(t)
	for _, section := range []string{"polar", "database", "schedule", "sync", "history", "privacy", "http", "heartbeat_url", "log"} {
		var kept []string
		inside := false
		for line := range strings.Lines(text) {
			if line[0] != ' ' && line[0] != '\n' && line[0] != '#' {
				inside = strings.HasPrefix(line, section+":")
			}
			if !inside {
				kept = append(kept, line)
			}
		}
		w := newEnv(strings.Join(kept, ""))
		w.env["POLAR_ACCESS_TOKEN"] = canary
		got, err := w.load()
		if err != nil {
			t.Fatalf("without %s: %v", section, err)
		}
		if d := diff(defaults(), got); d != "" {
			t.Errorf("without %s (-want +got):\n%s", section, d)
		}
	}
}

func TestWarningsNameWhatIsProbablyNotMeant(t *testing.T) {
	t.Parallel()
	tests := []struct {
		text string
		want []string // a part of each warning
	}{
		{minimal, nil},
		{minimal + "schedule: {incremental: \"\", full: \"\"}\n", []string{"both empty"}},
		{minimal + "schedule: {full: \"\"}\n", []string{"schedule.full is empty"}},
		{minimal + "polar: {base_url: " + SandboxURL + "}\n", []string{"above the 100 that Polar's sandbox allows"}},
		{minimal + "polar: {base_url: " + SandboxURL + ", requests_per_minute: 60}\n", nil},
		{minimal + "polar: {api_version: 2026-04}\n", []string{"polar.api_version 2026-04 is older than 2026-10"}},
		{minimal + "polar: {api_version: 2026-10}\n", nil},
		{minimal + "polar: {api_version: 2027-01}\n", nil},
		{minimal + "    webhook_secret: ${TOKEN}\nhttp: {listen: \"\"}\n", []string{"no webhook arrives"}},
		{minimal + "    webhook_secret: ${TOKEN}\n", nil},
		{minimal + "http: {listen: \"localhost:8080\", webhook_listen: \":8081\"}\n", nil},
		{minimal + "http: {user: me, password_file: token}\n", nil},
	}
	for _, tt := range tests {
		got := mustLoad(t, tt.text).Warnings()
		ok := len(got) == len(tt.want)
		for i := range tt.want {
			ok = ok && strings.Contains(got[i], tt.want[i])
		}
		if !ok {
			t.Errorf("%q: got %q, want %q", tt.text, got, tt.want)
		}
		noSecret(t, fmt.Sprint(got))
	}
}
