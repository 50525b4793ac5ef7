package check

import (
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/compose-spec/compose-go/v2/schema"
	"github.com/goccy/go-yaml"
)

func readYAML(t testing.TB, path string) map[string]any {
	t.Helper()
	body, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var document map[string]any
	if err := yaml.UnmarshalWithOptions(body, &document, yaml.Strict()); err != nil {
		t.Fatal(err)
	}
	return document
}

func TestComposeFileFitsTheSpecification(t *testing.T) {
	t.Parallel()
	document := readYAML(t, "../compose.yaml")
	if err := schema.Validate(document); err != nil {
		t.Error(err)
	}
	document["services"].(map[string]any)["syncd"].(map[string]any)["imagge"] = "syncd"
	if schema.Validate(document) == nil {
		t.Error("the schema takes an unknown key")
	}
}

func TestComposeFileNamesOnlyWhatIsThere(t *testing.T) {
	t.Parallel()
	document := readYAML(t, "../compose.yaml")
	names := func(section string) []string {
		return slices.Collect(maps.Keys(document[section].(map[string]any)))
	}
	services, secrets, volumes := names("services"), names("secrets"), names("volumes")
	for name, s := range document["services"].(map[string]any) {
		service := s.(map[string]any)
		for _, v := range list(service["volumes"]) {
			source, _, _ := strings.Cut(v.(string), ":")
			if !strings.HasPrefix(source, ".") {
				if !slices.Contains(volumes, source) {
					t.Errorf("%s: volume %s is not declared", name, source)
				}
				continue
			}
			if _, err := os.Stat(filepath.Join("..", source)); err != nil {
				t.Errorf("%s: %v", name, err)
			}
		}
		for _, v := range list(service["secrets"]) {
			if long, ok := v.(map[string]any); ok {
				v = long["source"]
			}
			if !slices.Contains(secrets, v.(string)) {
				t.Errorf("%s: secret %s is not declared", name, v)
			}
			// Compose refuses to put such a secret into a container that is read-only.
			if service["read_only"] == true {
				t.Errorf("%s: is read-only and takes a secret from the environment", name)
			}
		}
		for _, v := range list(service["ports"]) {
			if !strings.HasPrefix(v.(string), "127.0.0.1:") {
				t.Errorf("%s: port %s is published beyond this machine", name, v)
			}
		}
		needs, _ := service["depends_on"].(map[string]any)
		for needed := range needs {
			if !slices.Contains(services, needed) {
				t.Errorf("%s: depends on %s, which is no service", name, needed)
			}
		}
	}
}

func TestServicesOfComposeFindEachOther(t *testing.T) {
	t.Parallel()
	services := readYAML(t, "../compose.yaml")["services"].(map[string]any)
	scrape := list(readYAML(t, "../prometheus/compose.yml")["scrape_configs"])[0].(map[string]any)
	target := list(list(scrape["static_configs"])[0].(map[string]any)["targets"])[0].(string)
	source := func(name string) map[string]any {
		return list(readYAML(t, "../grafana/provisioning/datasources/"+name+".yaml")["datasources"])[0].(map[string]any)
	}
	database := services["syncd"].(map[string]any)["environment"].(map[string]any)["DATABASE_URL"].(string)
	_, database, _ = strings.Cut(database, "@")
	database, _, _ = strings.Cut(database, "/")
	for who, address := range map[string]string{
		"Prometheus":              target,
		"Grafana's first source":  strings.TrimPrefix(source("prometheus")["url"].(string), "http://"),
		"Grafana's second source": source("mirror")["url"].(string),
		"syncd":                   database,
	} {
		name, port, _ := strings.Cut(address, ":")
		service, ok := services[name].(map[string]any)
		if !ok || !slices.Contains(list(service["ports"]), any("127.0.0.1:"+port+":"+port)) {
			t.Errorf("%s looks for %s, which no service is", who, address)
		}
	}
	token := list(services["prometheus"].(map[string]any)["secrets"])[0].(map[string]any)["target"]
	if file := scrape["authorization"].(map[string]any)["credentials_file"]; file != token {
		t.Errorf("Prometheus reads its token from %v, and it is put at %v", file, token)
	}
	password := source("mirror")["secureJsonData"].(map[string]any)["password"].(string)
	password = strings.TrimSuffix(strings.TrimPrefix(password, "$__file{/run/secrets/"), "}")
	if !slices.Contains(list(services["grafana"].(map[string]any)["secrets"]), any(password)) {
		t.Errorf("Grafana has no secret %s", password)
	}
}

// list is a YAML list that may be missing.
func list(v any) []any {
	l, _ := v.([]any)
	return l
}
