package check

import (
	"bytes"
	"fmt"
	"go/ast"
	"io"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/goccy/go-yaml"
)

func kubernetesPackages() map[string]string {
	return map[string]string{ // by apiVersion
		"v1":                   "k8s.io/api/core/v1",
		"apps/v1":              "k8s.io/api/apps/v1",
		"policy/v1":            "k8s.io/api/policy/v1",
		"networking.k8s.io/v1": "k8s.io/api/networking/v1",
	}
}

func kubernetesTypes(t testing.TB) *types {
	t.Helper()
	return readTypes(t, "k8s.io/api/core/v1", "k8s.io/api/apps/v1", "k8s.io/api/policy/v1", "k8s.io/api/networking/v1",
		"k8s.io/apimachinery/pkg/apis/meta/v1")
}

func TestManifestsFitTheTypesOfKubernetes(t *testing.T) {
	t.Parallel()
	all := kubernetesTypes(t)
	for _, m := range manifests(t) {
		for _, problem := range all.checkManifest(m) {
			t.Error(problem)
		}
	}
}

func TestTypesOfKubernetesRefuseMistakes(t *testing.T) {
	t.Parallel()
	all := kubernetesTypes(t)
	for mistake, want := range map[string]string{
		"metadata: {name: x, lables: {}}":                   "lables: is not known",
		"spec: {replicas: two}":                             "replicas: is a string",
		"spec: {template: {spec: {containers: {name: x}}}}": "containers: is a map",
		"spec: {selector: {}}":                              "spec.template: is missing",
		"spec: {selector: {}, template: {spec: {containers: [{name: x, ports: [{containerPort: 1, protocol: TPC}]}]}}}": "protocol: is none of",
	} {
		var m map[string]any
		if err := yaml.Unmarshal([]byte("apiVersion: apps/v1\nkind: Deployment\n"+mistake), &m); err != nil {
			t.Fatal(err)
		}
		if problems := strings.Join(all.checkManifest(m), "\n"); !strings.Contains(problems, want) {
			t.Errorf("%s: %q is not in:\n%s", mistake, want, problems)
		}
	}
}

func manifests(t testing.TB) []map[string]any {
	t.Helper()
	body, err := os.ReadFile("../kubernetes.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var list []map[string]any
	for decoder := yaml.NewDecoder(bytes.NewReader(body), yaml.Strict()); ; {
		var m map[string]any
		switch err := decoder.Decode(&m); {
		case err == io.EOF:
			return list
		case err != nil:
			t.Fatal(err)
		}
		list = append(list, m)
	}
}

func (all *types) checkManifest(m map[string]any) []string {
	kind := fmt.Sprint(m["kind"])
	name := kubernetesPackages()[fmt.Sprint(m["apiVersion"])] + "." + kind
	d, ok := all.declared[name]
	if !ok {
		return []string{"there is no " + name}
	}
	return all.check(d, m, kind)
}

// check returns what is wrong with v, at path, as a value of d's type.
func (all *types) check(d declaration, v any, path string) []string {
	name := d.name()
	switch e := d.expr.(type) {
	case *ast.StarExpr:
		return all.check(declaration{d.pkg, e.X, d.imports}, v, path)
	case *ast.ArrayType:
		items, ok := v.([]any)
		if !ok {
			return mismatch(path, v, "a list")
		}
		var problems []string
		for i, item := range items {
			problems = append(problems, all.check(declaration{d.pkg, e.Elt, d.imports}, item, fmt.Sprintf("%s[%d]", path, i))...)
		}
		return problems
	case *ast.MapType:
		entries, ok := v.(map[string]any)
		if !ok {
			return mismatch(path, v, "a map")
		}
		var problems []string
		for key, entry := range entries {
			problems = append(problems, all.check(declaration{d.pkg, e.Value, d.imports}, entry, path+"."+key)...)
		}
		return problems
	case *ast.StructType:
		return all.checkStruct(d, e, v, path)
	}
	if shape, ok := leaves()[name[strings.LastIndex(name, ".")+1:]]; ok {
		if !shape.MatchString(fmt.Sprintf("%T:%v", v, v)) {
			return mismatch(path, v, name)
		}
		return nil
	}
	if values := all.values[name]; len(values) > 0 && !slices.Contains(values, fmt.Sprint(v)) {
		return []string{fmt.Sprintf("%s: is none of %q but %q", path, values, v)}
	}
	inner, ok := all.resolve(d)
	if !ok {
		return []string{fmt.Sprintf("%s: type %s is not known to this test", path, name)}
	}
	return all.check(inner, v, path)
}

// leaves are the types that a value is of, without parts: their kind and text.
func leaves() map[string]*regexp.Regexp {
	return map[string]*regexp.Regexp{
		"string":      regexp.MustCompile(`^string:`),
		"bool":        regexp.MustCompile(`^bool:`),
		"int32":       regexp.MustCompile(`^u?int64:`),
		"int64":       regexp.MustCompile(`^u?int64:`),
		"IntOrString": regexp.MustCompile(`^(u?int64|string):`),
		"Quantity":    regexp.MustCompile(`^(string|u?int64):[0-9]+(\.[0-9]+)?([kMGTPE]|[KMGTPE]i|m)?$`),
	}
}

func (all *types) checkStruct(d declaration, s *ast.StructType, v any, path string) []string {
	entries, ok := v.(map[string]any)
	if !ok {
		return mismatch(path, v, "a map")
	}
	var problems []string
	known := all.fields(d, s)
	for key, entry := range entries {
		f, ok := known[key]
		if !ok {
			problems = append(problems, fmt.Sprintf("%s.%s: is not known", path, key))
			continue
		}
		problems = append(problems, all.check(f.declaration, entry, path+"."+key)...)
	}
	for key, f := range known {
		if _, given := entries[key]; f.required && !given {
			problems = append(problems, fmt.Sprintf("%s.%s: is missing", path, key))
		}
	}
	return problems
}

func mismatch(path string, v any, want string) []string {
	is := "a value"
	switch v.(type) {
	case string:
		is = "a string"
	case []any:
		is = "a list"
	case map[string]any:
		is = "a map"
	}
	return []string{fmt.Sprintf("%s: is %s, %v; want %s", path, is, v, want)}
}
