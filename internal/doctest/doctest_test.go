package doctest

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
)

const document = "# First\n" +
	"\n" +
	"```sql\n" +
	"SELECT 1\n" +
	"# not a heading\n" +
	"```\n" +
	"\n" +
	"#nor a heading\n" +
	"\n" +
	"## Second one\n" +
	"\n" +
	"1. A list:\n" +
	"\n" +
	"   ```sh\n" +
	"   echo\n" +
	"     two\n" +
	"   ```\n" +
	"\n" +
	"```\n" +
	"\n" +
	"```\n"

func TestEveryBlockIsFoundWithItsPlace(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "document.md")
	if err := os.WriteFile(path, []byte(document), 0o600); err != nil {
		t.Fatal(err)
	}
	want := []Block{
		{Line: 4, Language: "sql", Text: "SELECT 1\n# not a heading\n", Heading: "First"},
		{Line: 15, Language: "sh", Text: "echo\n  two\n", Heading: "Second one"},
		{Line: 20, Text: "\n", Heading: "Second one"},
	}
	if diff := cmp.Diff(want, Blocks(t, path)); diff != "" {
		t.Error(diff)
	}
}

func TestFenceLeftOpenIsNoticed(t *testing.T) {
	t.Parallel()
	if _, open := parse("text\n```sql\nSELECT 1\n"); open != 2 {
		t.Errorf("got line %d, want 2", open)
	}
}
