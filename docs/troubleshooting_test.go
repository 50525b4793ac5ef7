package docs

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const repository = ".."

// A wordTable is a table of a document: its header, and the first cell of each row.
type wordTable struct {
	header string
	rows   []string
}

// troubleshooting are the tables of that section of docs/operations.md.
func troubleshooting(t testing.TB) []wordTable {
	t.Helper()
	body, err := os.ReadFile(filepath.Join(repository, "docs/operations.md"))
	if err != nil {
		t.Fatal(err)
	}
	_, section, found := strings.Cut(string(body), "\n## Troubleshooting\n")
	if !found {
		t.Fatal("docs/operations.md has no section Troubleshooting")
	}
	section, _, _ = strings.Cut(section, "\n## ")
	var tables []wordTable
	inside := false
	for line := range strings.Lines(section) {
		cells := strings.Split(line, "|")
		switch {
		case len(cells) < 4:
			inside = false
		case !inside:
			inside = true
			tables = append(tables, wordTable{header: strings.TrimSpace(cells[1])})
		case !strings.HasPrefix(cells[1], "---"):
			last := &tables[len(tables)-1]
			last.rows = append(last.rows, cells[1])
		}
	}
	return tables
}

var quoted = regexp.MustCompile("`([^`]+)`")

// fragments are what the tables quote of syncd's own words.
func fragments(t testing.TB) []string {
	t.Helper()
	var all []string
	for _, table := range troubleshooting(t) {
		if table.header != "it says" {
			continue
		}
		for _, row := range table.rows {
			found := quoted.FindAllStringSubmatch(row, -1)
			if len(found) == 0 {
				t.Errorf("row without a quotation: %s", row)
			}
			for _, f := range found {
				all = append(all, f[1])
			}
		}
	}
	if len(all) < 100 {
		t.Fatalf("only %d quotations were found", len(all))
	}
	return all
}

// Texts of the program.
type texts struct {
	all    []string // every text in the code, those joined with + as one
	logged []string // messages of log lines at level warn and error
	errors []string // sentinels: errors.New at the top level; in the configuration every problem
}

// programTexts reads the code of the program, without its tests and without
// what only tests and measures use.
func programTexts(t testing.TB) *texts {
	t.Helper()
	found := &texts{}
	skipped := map[string]bool{"cmd/syncd-bench": true, "deploy": true, "internal/pgtest": true, "internal/polarsim": true}
	err := filepath.WalkDir(repository, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		relative, err := filepath.Rel(repository, path)
		if err != nil {
			return err
		}
		if d.IsDir() && (skipped[filepath.ToSlash(relative)] || strings.HasPrefix(d.Name(), ".") && relative != ".") {
			return filepath.SkipDir
		}
		if d.IsDir() || filepath.Ext(path) != ".go" || strings.HasSuffix(path, "_test.go") {
			return nil
		}
		file, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.SkipObjectResolution)
		if err != nil {
			return err
		}
		found.take(file)
		if file.Name.Name == "config" {
			found.takeComplaints(file)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}

func (x *texts) take(file *ast.File) {
	for _, d := range file.Decls {
		if vars, ok := d.(*ast.GenDecl); ok && vars.Tok == token.VAR {
			ast.Inspect(vars, func(n ast.Node) bool {
				if call, ok := n.(*ast.CallExpr); ok && called(call) == "New" && len(call.Args) == 1 {
					if text := literal(call.Args[0]); text != "" {
						x.errors = append(x.errors, text)
					}
				}
				return true
			})
		}
	}
	ast.Inspect(file, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.ImportSpec:
			return false
		case *ast.CallExpr:
			if name := called(n); (name == "Warn" || name == "Error") && len(n.Args) > 0 {
				if text := literal(n.Args[0]); text != "" {
					x.logged = append(x.logged, text)
				}
			}
		case *ast.BinaryExpr, *ast.BasicLit:
			if text := literal(n.(ast.Expr)); text != "" {
				x.all = append(x.all, text)
			}
		}
		return true
	})
}

// takeComplaints takes what is wrong with a configuration. A text that begins
// with "want" says by itself what to write.
func (x *texts) takeComplaints(file *ast.File) {
	ast.Inspect(file, func(n ast.Node) bool {
		call, ok := n.(*ast.CallExpr)
		if !ok || called(call) != "New" && called(call) != "Errorf" && called(call) != "report" {
			return true
		}
		for _, a := range call.Args {
			text := literal(a)
			if strings.Contains(text, " ") && !strings.HasPrefix(text, "want") && !strings.HasPrefix(text, "read %s") {
				x.errors = append(x.errors, text)
			}
		}
		return true
	})
}

// called is the name of the method or of the package's function.
func called(call *ast.CallExpr) string {
	if s, ok := call.Fun.(*ast.SelectorExpr); ok {
		return s.Sel.Name
	}
	return ""
}

// literal is a text, or several joined with +; a part that is no text is a line
// break, which no quotation spans.
func literal(e ast.Expr) string {
	switch e := e.(type) {
	case *ast.BasicLit:
		if e.Kind == token.STRING {
			text, _ := strconv.Unquote(e.Value)
			return text
		}
	case *ast.BinaryExpr:
		if e.Op != token.ADD {
			return ""
		}
		left, right := literal(e.X), literal(e.Y)
		if left == "" && right == "" {
			return ""
		}
		if left == "" {
			left = "\n"
		}
		if right == "" {
			right = "\n"
		}
		return left + right
	}
	return ""
}

func contains(texts []string, part string) bool {
	for _, text := range texts {
		if strings.Contains(text, part) {
			return true
		}
	}
	return false
}

func TestEveryMessageOfTheTroubleshootingIsTheProgramsOwn(t *testing.T) {
	t.Parallel()
	program := programTexts(t)
	for _, fragment := range fragments(t) {
		if !contains(program.all, fragment) {
			t.Errorf("syncd never says %q", fragment)
		}
	}
	if contains(program.all, "syncd never says this, nor will it") {
		t.Error("this test finds anything")
	}
}

func TestEveryWarningAndEveryKnownErrorIsInTheTroubleshooting(t *testing.T) {
	t.Parallel()
	program, told := programTexts(t), fragments(t)
	if len(program.logged) < 20 || len(program.errors) < 20 {
		t.Fatalf("only %d log lines and %d errors were found", len(program.logged), len(program.errors))
	}
	inside := []string{
		"no such page", "not found", "still being counted", // states of the status page
		"timestamp out of tolerance",              // the log says it in other words
		"port is taken",                           // another is tried
		"redirected too often",                    // part of a line that says that Polar gave no answer
		"a copy in an unexpected place",           // read again in another way
		"want five fields, each within its range", // what a key wants
	}
	for _, text := range append(program.logged, program.errors...) {
		known := slices.ContainsFunc(inside, func(begin string) bool { return strings.HasPrefix(text, begin) })
		for _, fragment := range told {
			known = known || strings.Contains(text, fragment)
		}
		if !known {
			t.Errorf("docs/operations.md does not explain %q", text)
		}
	}
}
