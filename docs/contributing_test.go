package docs

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// TestCommandsOfContributingNameWhatExists: a pattern of tests that matches none
// is a success to go test, which then has tested nothing.
func TestCommandsOfContributingNameWhatExists(t *testing.T) {
	t.Parallel()
	body, err := os.ReadFile(filepath.Join(repository, "CONTRIBUTING.md"))
	if err != nil {
		t.Fatal(err)
	}
	command := regexp.MustCompile("go test [^`|]*?\\./([a-z/]+)[^`]*")
	pattern := regexp.MustCompile(`-(?:run|fuzz)[ =]([A-Za-z]+)`)
	option := regexp.MustCompile(`-([a-z]+\.[a-z]+)=`)
	checked := 0
	for _, found := range command.FindAllStringSubmatch(string(body), -1) {
		source := testSources(t, found[1])
		for _, p := range pattern.FindAllStringSubmatch(found[0], -1) {
			checked++
			name := `(?m)^func (Test|Fuzz)\w*` + strings.TrimPrefix(strings.TrimPrefix(p[1], "Test"), "Fuzz")
			if !regexp.MustCompile(name).MatchString(source) {
				t.Errorf("%s: no test of %s is called so", found[0], found[1])
			}
		}
		for _, o := range option.FindAllStringSubmatch(found[0], -1) {
			checked++
			if o[1] != "rapid.checks" && !strings.Contains(source, `"`+o[1]+`"`) {
				t.Errorf("%s: there is no flag -%s", found[0], o[1])
			}
		}
	}
	if checked < 8 {
		t.Errorf("only %d patterns and flags were found", checked)
	}
}

// testSources are the sources of a package's tests.
func testSources(t testing.TB, pkg string) string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(repository, pkg, "*_test.go"))
	if err != nil || len(files) == 0 {
		t.Fatalf("%s has no tests (%v)", pkg, err)
	}
	var all strings.Builder
	for _, file := range files {
		body, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		all.Write(body)
	}
	return all.String()
}
