//go:build unix

package main

import (
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"

	"polarmirror/internal/doctest"
	"polarmirror/internal/pgtest"
)

// documents are those whose commands and statements are for readers to run.
func documents(t testing.TB) []string {
	t.Helper()
	docs, err := filepath.Glob(filepath.Join(repository, "docs", "*.md"))
	if err != nil || len(docs) == 0 {
		t.Fatalf("no documents: %v", err)
	}
	return append([]string{filepath.Join(repository, "README.md"), filepath.Join(repository, "CONTRIBUTING.md")}, docs...)
}

// notRun are programs that a document may call and that cannot run here, with
// the reason.
func notRun() map[string]string {
	return map[string]string{
		"docker":        "there is no engine: cmd/syncd's tests of deploy read the files that it is given",
		"pg_basebackup": "a test in docs runs it",
		"kubectl":       "there is no cluster: the same",
		"systemctl":     "there is no systemd: .ci/run has systemd-analyze check the unit",
		"install":       "it changes the machine",
		"useradd":       "it changes the machine",
		"git":           "this is a clone",
		"cd":            "this is the folder",
		".ci/run":       "it runs this test",
		".ci/long":      "it takes hours",
	}
}

// TestCommandsInTheDocumentsRun runs each line of each shell block, as it stands
// there, against a simulated Polar: only what an export says of tokens and
// databases is replaced, and ticks come each second. The demo has a test of its own.
func TestCommandsInTheDocumentsRun(t *testing.T) {
	t.Parallel()
	large(t)
	for _, path := range documents(t) {
		text := ""
		for _, block := range doctest.Blocks(t, path) {
			if block.Language == "sh" {
				text += block.Text + "\n"
			}
		}
		if text != "" {
			t.Run(filepath.Base(path), func(t *testing.T) {
				t.Parallel()
				newReader(t, text).run(text)
			})
		}
	}
}

// A docReader does what a document says.
type docReader struct {
	*testing.T
	*fixture
	dir         string
	environment map[string]string
}

// newReader returns who will follow a text, with all that it takes to call syncd if
// that is in it.
func newReader(t *testing.T, text string) *docReader {
	t.Helper()
	if !strings.Contains(text, "syncd") {
		return &docReader{T: t}
	}
	r := &docReader{T: t, fixture: newFixture(t, 30), dir: demoFolder(t), environment: map[string]string{}}
	org := r.orgs[0]
	r.put("config.yaml", fmt.Sprintf("polar: {base_url: %q}\ndatabase: {url: \"${DATABASE_URL:-}\"}\nhttp: {listen: \"127.0.0.1:0\"}\nschedule: {incremental: '@every 1s'}\n"+
		"organizations:\n  - {name: acme, id: %s, access_token: \"${POLAR_ACCESS_TOKEN}\"}\n", r.url, org.ID))
	example, err := os.ReadFile(filepath.Join(repository, "config.example.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	sample := regexp.MustCompile(`(?m)^  base_url: .*$`).ReplaceAllString(string(example), fmt.Sprintf("  base_url: %q", r.url))
	sample = strings.Replace(sample, "1dbfc517-0bbf-4301-9ba8-555ca42b9737", org.ID.String(), 1)
	sample = strings.Replace(sample, `incremental: "* * * * *"`, `incremental: "@every 1s"`, 1)
	sample = strings.Replace(sample, "listen: 127.0.0.1:8080", "listen: 127.0.0.1:0", 1)
	r.put("config.example.yaml", sample)
	r.set("POLAR_ACCESS_TOKEN")
	return r
}

func (r *docReader) put(name, text string) {
	r.Helper()
	if err := os.WriteFile(filepath.Join(r.dir, name), []byte(text), 0o600); err != nil {
		r.Fatal(err)
	}
}

// set sets a variable to what is right here.
func (r *docReader) set(name string) {
	r.Helper()
	value, ok := map[string]string{
		"POLAR_ACCESS_TOKEN": r.orgs[0].Token,
		"DATABASE_URL":       r.db.URL,
	}[name]
	if !ok {
		r.Fatalf("the test has no value for %s", name)
	}
	r.environment[name] = value
}

func (r *docReader) run(text string) {
	r.Helper()
	text = strings.ReplaceAll(text, "\\\n", " ")
	for line := range strings.Lines(text) {
		command, _, _ := strings.Cut(line, " #")
		words := strings.Fields(command)
		if len(words) == 0 || strings.HasPrefix(words[0], "#") {
			continue
		}
		if reason := notRun()[words[0]]; reason != "" {
			r.Logf("not run (%s): %s", reason, command)
			continue
		}
		switch {
		case words[0] == "export":
			name, _, _ := strings.Cut(words[1], "=")
			r.set(name)
		case words[0] == "cp":
			r.shell(command)
		case words[0] == "syncd":
			r.syncd(words[1:])
		case len(words) > 2 && words[0] == "go" && words[1] == "run" && words[2] == "./cmd/syncd":
			r.syncd(words[3:])
		case strings.HasPrefix(command, "go run ./cmd/syncd-bench"):
			// A test of that package reads the flags.
		case len(words) > 2 && words[0] == "go" && words[1] == "test":
			r.tests(strings.TrimSpace(command), words[2:])
		default:
			r.Errorf("the test does not know how to run %q", command)
		}
	}
}

// shell runs a command of the system's in the reader's folder.
func (r *docReader) shell(command string) {
	r.Helper()
	cmd := exec.CommandContext(r.Context(), "sh", "-c", command)
	cmd.Dir = r.dir
	if out, err := cmd.CombinedOutput(); err != nil {
		r.Errorf("%s: %v\n%s", command, err, out)
	}
}

// syncd runs syncd until it ends, the service until it has done its first run.
func (r *docReader) syncd(args []string) {
	r.Helper()
	if slices.Contains(args, "--demo") {
		r.Logf("not run (TestDemoStartsFromNothing... does): syncd %s", strings.Join(args, " "))
		return
	}
	var env []string
	for _, name := range slices.Sorted(maps.Keys(r.environment)) {
		env = append(env, name+"="+r.environment[name])
	}
	p := startWith(r, r.dir, env, args...)
	if len(args) == 0 { // the service
		eventually(r, "the first run", func() bool { return strings.Contains(p.stderr.String(), `"msg":"run finished"`) })
		if err := p.cmd.Process.Signal(syscall.SIGINT); err != nil {
			r.Error(err)
		}
	}
	if got := p.end(r); got.code != exitDone {
		r.Errorf("syncd %s: exit code %d\n%s%s", strings.Join(args, " "), got.code, got.stdout, got.stderr)
	}
}

// tests makes sure that .ci/run runs what is named: all tests as they stand
// there, single ones because they are among those.
func (r *docReader) tests(command string, args []string) {
	r.Helper()
	if err := inCI(command, args); err != nil {
		r.Error(err)
	}
}

func inCI(command string, args []string) error {
	ci, err := os.ReadFile(filepath.Join(repository, ".ci", "run"))
	if err != nil {
		return err
	}
	// As a command of its own, with whatever stands before or after it.
	if regexp.MustCompile(`(?m)(^|[ =])` + regexp.QuoteMeta(command) + `($| \|\| )`).Match(ci) {
		return nil
	}
	name, folder := "", ""
	for i, arg := range args {
		switch {
		case strings.HasPrefix(arg, "./"):
			folder = arg
		case arg == "-run" && i+1 < len(args) && args[i+1] != `"^$"`:
			name = args[i+1]
		case strings.HasPrefix(arg, "-fuzz="):
			name = strings.TrimPrefix(arg, "-fuzz=")
		}
	}
	files, err := filepath.Glob(filepath.Join(repository, folder, "*_test.go"))
	if err != nil || name == "" || folder == "" {
		return fmt.Errorf(".ci/run does not run %q (%w)", command, err)
	}
	declared := regexp.MustCompile(`func (Test|Fuzz)?\w*` + name)
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			return err
		}
		if declared.Match(text) {
			return nil
		}
	}
	return fmt.Errorf("%q: there is no such test", command)
}

// TestTestsNamedInTheDocumentsExist: every `go test …` within the text.
func TestTestsNamedInTheDocumentsExist(t *testing.T) {
	t.Parallel()
	call := regexp.MustCompile("`(go test [^`]+)`")
	found := 0
	for _, path := range documents(t) {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range call.FindAllStringSubmatch(strings.ReplaceAll(string(text), "\n", " "), -1) {
			found++
			if strings.HasSuffix(m[1], "/") && !strings.Contains(m[1], "-run") {
				continue // a package, whole
			}
			if err := inCI(m[1], strings.Fields(m[1])[2:]); err != nil {
				t.Errorf("%s: %v", path, err)
			}
		}
	}
	if found < 5 {
		t.Errorf("found only %d", found)
	}
}

// TestCallsNamedInTheDocumentsExist: every `syncd …` within the text.
func TestCallsNamedInTheDocumentsExist(t *testing.T) {
	t.Parallel()
	call := regexp.MustCompile("`syncd((?: [a-z]+| --[a-z-]+| ID)*)`")
	seen := map[string]bool{}
	for _, path := range documents(t) {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range call.FindAllStringSubmatch(string(text), -1) {
			seen[strings.TrimSpace(m[1])] = true
		}
	}
	if len(seen) < 10 {
		t.Fatalf("found only %v", slices.Sorted(maps.Keys(seen)))
	}
	for words := range seen {
		args := strings.Fields(words)
		var path []string
		for _, a := range args {
			if a != "ID" && !strings.HasPrefix(a, "--") {
				path = append(path, a)
			}
		}
		r := callContext(t.Context(), t, nil, append(args, "--help")...)
		usage := "syncd " + strings.Join(path, " ")
		if r.code != exitDone || !strings.Contains(r.stdout, strings.TrimSpace(usage)) {
			t.Errorf("syncd %s: exit code %d, and its help does not say %q\n%s", words, r.code, usage, r.stderr)
		}
	}
}

// TestStatementsInTheDocumentsRun on a mirror that was just made. Those of
// queries.md, security.md and scaling.md have tests of their own, which look at what
// comes of them.
func TestStatementsInTheDocumentsRun(t *testing.T) {
	t.Parallel()
	_, db := pgtest.NewStore(t)
	for _, path := range documents(t) {
		if slices.Contains([]string{"queries.md", "security.md", "scaling.md"}, filepath.Base(path)) {
			continue
		}
		for _, block := range doctest.Blocks(t, path) {
			if block.Language != "sql" {
				continue
			}
			if _, err := db.Pool.Exec(t.Context(), block.Text); err != nil {
				t.Errorf("%s:%d: %v", path, block.Line, err)
			}
		}
	}
}
