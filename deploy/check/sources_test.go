package check

import (
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"strconv"
	"strings"
	"testing"
)

// types are the types of some packages, read from their sources: by
// "import path.Name".
type types struct {
	declared map[string]declaration
	values   map[string][]string // of a type of strings: its constants
	folders  map[string]string   // of modules
}

// A declaration is a type, and the names that its file imports.
type declaration struct {
	pkg     string
	expr    ast.Expr
	imports map[string]string
}

// readTypes reads the packages that a manifest may name, and what they refer to.
func readTypes(t testing.TB, packages ...string) *types {
	t.Helper()
	all := &types{declared: map[string]declaration{}, values: map[string][]string{}, folders: map[string]string{}}
	for _, module := range []string{"k8s.io/api", "k8s.io/apimachinery"} {
		out, err := exec.CommandContext(t.Context(), "go", "mod", "download", "-json", module).Output()
		if err != nil {
			t.Fatalf("%s: %v", module, err)
		}
		_, rest, _ := strings.Cut(string(out), `"Dir": "`)
		all.folders[module], _, _ = strings.Cut(rest, `"`)
	}
	for _, p := range packages {
		all.read(t, p)
	}
	return all
}

func (all *types) read(t testing.TB, pkg string) {
	t.Helper()
	module, folder, _ := strings.Cut(strings.TrimPrefix(pkg, "k8s.io/"), "/")
	dir := filepath.Join(all.folders["k8s.io/"+module], folder)
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if name := e.Name(); filepath.Ext(name) != ".go" || strings.HasSuffix(name, "_test.go") || strings.Contains(name, "generated") {
			continue
		}
		file, err := parser.ParseFile(token.NewFileSet(), filepath.Join(dir, e.Name()), nil, parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		all.take(pkg, file)
	}
}

func (all *types) take(pkg string, file *ast.File) {
	imports := map[string]string{}
	for _, i := range file.Imports {
		path, _ := strconv.Unquote(i.Path.Value)
		name := path[strings.LastIndex(path, "/")+1:]
		if i.Name != nil {
			name = i.Name.Name
		}
		imports[name] = path
	}
	for _, d := range file.Decls {
		general, ok := d.(*ast.GenDecl)
		if !ok {
			continue
		}
		for _, s := range general.Specs {
			switch s := s.(type) {
			case *ast.TypeSpec:
				all.declared[pkg+"."+s.Name.Name] = declaration{pkg, s.Type, imports}
			case *ast.ValueSpec:
				kind, ok := s.Type.(*ast.Ident)
				if !ok || general.Tok != token.CONST {
					continue
				}
				for _, v := range s.Values {
					if text, ok := v.(*ast.BasicLit); ok && text.Kind == token.STRING {
						value, _ := strconv.Unquote(text.Value)
						all.values[pkg+"."+kind.Name] = append(all.values[pkg+"."+kind.Name], value)
					}
				}
			}
		}
	}
}

// A field is one of a struct, by its name in JSON.
type field struct {
	declaration // of its type
	required    bool
}

// fields are those of a struct, those of embedded ones included.
func (all *types) fields(d declaration, s *ast.StructType) map[string]field {
	found := map[string]field{}
	for _, f := range s.Fields.List {
		if f.Tag == nil {
			continue
		}
		tag, _ := strconv.Unquote(f.Tag.Value)
		name, options, _ := strings.Cut(reflect.StructTag(tag).Get("json"), ",")
		of := declaration{d.pkg, f.Type, d.imports}
		if name == "" { // embedded
			if inner, ok := all.resolve(of); ok {
				if s, ok := inner.expr.(*ast.StructType); ok {
					for name, f := range all.fields(inner, s) {
						found[name] = f
					}
				}
			}
			continue
		}
		optional := strings.Contains(options, "omit") || strings.Contains(f.Doc.Text(), "+optional")
		found[name] = field{of, !optional}
	}
	return found
}

// resolve follows names to what they stand for. It reports false for those of
// packages that were not read, and of Go's own.
func (all *types) resolve(d declaration) (declaration, bool) {
	switch e := d.expr.(type) {
	case *ast.Ident:
		named, ok := all.declared[d.pkg+"."+e.Name]
		return named, ok
	case *ast.SelectorExpr:
		named, ok := all.declared[d.imports[e.X.(*ast.Ident).Name]+"."+e.Sel.Name]
		return named, ok
	}
	return d, true
}

// name is the full name of a type, "" if it has none.
func (d declaration) name() string {
	switch e := d.expr.(type) {
	case *ast.Ident:
		return d.pkg + "." + e.Name
	case *ast.SelectorExpr:
		return d.imports[e.X.(*ast.Ident).Name] + "." + e.Sel.Name
	}
	return ""
}
