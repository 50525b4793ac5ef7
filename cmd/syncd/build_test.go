package main

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// repository is the top of the checkout.
const repository = "../.."

func readDocument(t testing.TB, path string) string {
	t.Helper()
	body, err := os.ReadFile(filepath.Join(repository, path))
	if err != nil {
		t.Fatal(err)
	}
	return string(body)
}

// imageContext copies what .dockerignore lets into a build to a new folder. It
// knows the forms that are in there: a star, names let in, and **/ patterns.
func imageContext(t testing.TB) string {
	t.Helper()
	dir := t.TempDir()
	var let, out []string
	for line := range strings.Lines(readDocument(t, ".dockerignore")) {
		line = strings.TrimSpace(line)
		switch name, in := strings.CutPrefix(line, "!"); {
		case in:
			let = append(let, name)
		case strings.HasPrefix(line, "**/"):
			out = append(out, strings.TrimPrefix(line, "**/"))
		case line != "" && line != "*" && line[0] != '#':
			t.Fatalf(".dockerignore: this test cannot read %q", line)
		}
	}
	for _, name := range let {
		if err := copyWithout(filepath.Join(repository, name), filepath.Join(dir, name), out); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// copyWithout copies a file, or a folder but for what matches one of out.
func copyWithout(from, to string, out []string) error {
	return filepath.WalkDir(from, func(path string, d os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		for _, pattern := range out {
			if match, _ := filepath.Match(pattern, d.Name()); match {
				if d.IsDir() {
					return filepath.SkipDir
				}
				return nil
			}
		}
		relative, err := filepath.Rel(from, path)
		if err != nil || d.IsDir() {
			return err
		}
		body, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		target := filepath.Join(to, relative)
		if err := os.MkdirAll(filepath.Dir(target), 0o700); err != nil {
			return err
		}
		return os.WriteFile(target, body, 0o600)
	})
}

// buildAsImage runs the Dockerfile's build with these arguments in dir and returns the
// binary. go build leaves one that is there already as it is if it was made from the
// same: every package as compiled, and every flag.
func buildAsImage(t testing.TB, dir, binary string, arguments ...string) []byte {
	t.Helper()
	found := regexp.MustCompile(`(?m)^RUN (go build .* -o )/out/syncd (\./cmd/syncd)$`).FindStringSubmatch(readDocument(t, "Dockerfile"))
	if found == nil {
		t.Fatal("the Dockerfile has no such build")
	}
	cmd := exec.CommandContext(t.Context(), "sh", "-c", found[1]+binary+" "+found[2])
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOFLAGS=")
	cmd.Env = append(cmd.Env, arguments...)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	body, err := os.ReadFile(binary)
	if err != nil {
		t.Fatal(err)
	}
	return body
}

func TestImageIsBuiltFromItsContextAloneAndAlikeEachTime(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("builds the binary")
	}
	arguments := []string{"VERSION=v9.8.7", "COMMIT=0123456789abcdef"}
	binary := filepath.Join(t.TempDir(), "syncd")
	first := buildAsImage(t, imageContext(t), binary, arguments...)
	if second := buildAsImage(t, imageContext(t), binary, arguments...); !bytes.Equal(first, second) {
		t.Error("two builds of the same sources in two places differ")
	}
	out, err := exec.CommandContext(t.Context(), binary, "version").Output()
	if err != nil {
		t.Fatal(err)
	}
	assertContains(t, string(out), "syncd v9.8.7\n", "commit 0123456789abcdef\n")
	if bytes.Contains(first, []byte(filepath.Dir(filepath.Dir(binary)))) {
		t.Error("the binary tells where it was built")
	}
}
