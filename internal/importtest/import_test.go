// Package importtest holds the layering of this repository: which of our
// packages each package may import.
package importtest

import (
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const module = "polarmirror/"

// allowed are the packages of ours that the code of a package may import. Code
// in test files may import more, but never upward either: see testOnly.
func allowed() map[string][]string {
	return map[string][]string{
		"migrations":          {},
		"docs":                {}, // tests alone
		"internal/secret":     {},
		"internal/recent":     {},
		"internal/polar":      {},
		"internal/polarsim":   {},
		"internal/localpg":    {},
		"internal/config":     {"internal/secret"},
		"internal/fetch":      {"internal/polar", "internal/secret"},
		"internal/store":      {"internal/polar", "internal/secret", "migrations"},
		"internal/mirror":     {"internal/polar", "internal/fetch", "internal/store", "internal/secret"},
		"internal/console":    {"internal/mirror"},
		"internal/heartbeat":  {"internal/fetch", "internal/secret", "internal/store"},
		"internal/metrics":    {"internal/fetch", "internal/mirror", "internal/recent", "internal/store"},
		"internal/web":        {"internal/config", "internal/console", "internal/mirror", "internal/polar", "internal/recent", "internal/secret", "internal/store"},
		"internal/pgtest":     {"internal/localpg", "internal/secret", "internal/store", "migrations"},
		"internal/importtest": {},
		"internal/doctest":    {},
		"cmd/syncd":           nil, // wires everything
		"cmd/syncd-bench":     {"internal/console", "internal/localpg", "internal/polarsim"},
		"deploy/check":        {},
	}
}

// testOnly are packages that only tests may import.
func testOnly() []string {
	return []string{"internal/pgtest", "internal/doctest"}
}

func TestImportsPointDown(t *testing.T) {
	t.Parallel()
	table := allowed()
	for file, imports := range ours(t) {
		pkg := filepath.ToSlash(filepath.Dir(file))
		may, known := table[pkg]
		if !known {
			t.Errorf("%s: package %s is not in the table of imports; decide what it may import", file, pkg)
			continue
		}
		if strings.HasSuffix(file, "_test.go") || pkg == "cmd/syncd" {
			continue
		}
		for _, imported := range imports {
			if !slices.Contains(may, imported) {
				t.Errorf("%s imports %s; %s may import %v", file, imported, pkg, may)
			}
		}
	}
}

func TestProductionCodeImportsNoTestHelpers(t *testing.T) {
	t.Parallel()
	for file, imports := range ours(t) {
		pkg := filepath.ToSlash(filepath.Dir(file))
		if strings.HasSuffix(file, "_test.go") || slices.Contains(testOnly(), pkg) {
			continue
		}
		for _, imported := range imports {
			if slices.Contains(testOnly(), imported) {
				t.Errorf("%s imports %s, which is for tests", file, imported)
			}
		}
	}
}

// ours returns, for each Go file, which packages of this module it imports.
func ours(t *testing.T) map[string][]string {
	t.Helper()
	root := filepath.Join("..", "..")
	if _, err := os.Stat(filepath.Join(root, "go.mod")); err != nil {
		t.Fatal(err)
	}
	found := make(map[string][]string)
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && path != root && strings.HasPrefix(d.Name(), ".") {
			return filepath.SkipDir
		}
		if d.IsDir() || filepath.Ext(path) != ".go" {
			return nil
		}
		file, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.ImportsOnly)
		if err != nil {
			return err
		}
		relative, err := filepath.Rel(root, path)
		if err != nil {
			return err
		}
		found[relative] = nil
		for _, spec := range file.Imports {
			name, err := strconv.Unquote(spec.Path.Value)
			if err != nil {
				return err
			}
			if after, ok := strings.CutPrefix(name, module); ok {
				found[relative] = append(found[relative], after)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}
