package localpg_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"polarmirror/internal/localpg"
)

func TestFolderWithOtherFilesIsLeftAlone(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "thesis.txt"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	_, err := localpg.Start(t.Context(), options(dir))
	assertSays(t, err, "thesis.txt", "database.data_dir")
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	if len(entries) != 1 {
		t.Errorf("the folder now holds %v", entries)
	}
}

func TestFolderThatCannotBeMadeNamesTheSetting(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	_, err := localpg.Start(t.Context(), options(filepath.Join(file, ".syncd")))
	assertSays(t, err, "database.data_dir")
}

func TestFolderOfProgramsWithoutPostgresIsNamed(t *testing.T) {
	t.Parallel()
	opts := options(dataDir(t))
	opts.BinDir = t.TempDir()
	_, startErr := localpg.Start(t.Context(), opts)
	_, findErr := localpg.Find(t.Context(), opts.BinDir)
	for _, err := range []error{startErr, findErr} {
		if !errors.Is(err, localpg.ErrNoPostgres) {
			t.Errorf("not ErrNoPostgres: %v", err)
		}
		assertSays(t, err, opts.BinDir)
	}
}

// The steps share a folder, each with a further fault.
func TestFolderThatCannotBeUsedSaysWhatToDo(t *testing.T) {
	t.Parallel()
	dir := madeDir(t)
	version := filepath.Join(dir, "data", "PG_VERSION")
	write := func(text string) func() error {
		return func() error { return os.WriteFile(version, []byte(text), 0o600) }
	}
	for _, step := range []struct {
		name  string
		fault func() error
		says  []string
	}{
		{"another version", write("13\n"), []string{"Postgres 13", "postgresql-13", dir}},
		{"no version", write("none\n"), []string{dir, "the data is damaged", "remove it"}},
		{"no file of the version", func() error { return os.Remove(version) }, []string{dir, "the data is damaged", "remove it"}},
		{"lost password", func() error { return os.Remove(filepath.Join(dir, "password")) }, []string{"password", "remove the folder"}},
	} {
		if err := step.fault(); err != nil {
			t.Fatal(err)
		}
		_, err := localpg.Start(t.Context(), options(dir))
		t.Logf("%s: %v", step.name, err)
		assertSays(t, err, step.says...)
		if got, want := errors.Is(err, localpg.ErrNoPostgres), step.name == "another version"; got != want {
			t.Errorf("%s: ErrNoPostgres: %v", step.name, got)
		}
	}
}

func TestServerThatCannotStartSaysWhy(t *testing.T) {
	t.Parallel()
	opts := options(madeDir(t))
	opts.Settings = map[string]string{"shared_buffers": "nonsense"}
	_, err := localpg.Start(t.Context(), opts)
	assertSays(t, err, "shared_buffers", "nonsense", "postgres.log")
}

// assertSays checks an error for a person: one line that holds every part.
func assertSays(t testing.TB, err error, parts ...string) {
	t.Helper()
	if err == nil {
		t.Fatal("no error")
	}
	text := err.Error()
	if strings.Contains(text, "\n") {
		t.Errorf("more than a line: %s", text)
	}
	for _, part := range parts {
		if !strings.Contains(text, part) {
			t.Errorf("%q says nothing of %q", text, part)
		}
	}
}
