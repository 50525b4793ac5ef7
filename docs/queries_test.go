package docs

import (
	"flag"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"

	"polarmirror/internal/doctest"
)

func TestQueriesGiveTheResultsShown(t *testing.T) {
	t.Parallel()
	w := newEnv(t)
	w.live()
	role := w.grantAnalyst()
	w.stopClock(present(), role)
	conn := w.connectAs(role, testPassword)
	defer conn.Close(t.Context())
	blocks := doctest.Blocks(t, "queries.md")
	results := make(map[int]string) // by the line of the block that shows them
	questions := 0
	for i, b := range blocks {
		if b.Language != "sql" {
			continue
		}
		if strings.HasPrefix(b.Text, "CREATE ") { // an administrator's, and shows nothing
			mustExec(t, w.db.Pool, strings.ReplaceAll(b.Text, " analyst;", " "+role+";"))
			continue
		}
		questions++
		got, err := ask(t, conn, b.Text)
		if err != nil {
			t.Errorf("queries.md:%d: %s: %v", b.Line, b.Heading, err)
			continue
		}
		if i+1 == len(blocks) || blocks[i+1].Language != "text" {
			t.Errorf("queries.md:%d: no block with language text shows the result", b.Line)
			continue
		}
		shown := blocks[i+1]
		results[shown.Line] = got
		if strings.Count(got, "\n") < 3 {
			t.Errorf("queries.md:%d: %s: no rows, which shows nothing", b.Line, b.Heading)
		}
		if diff := cmp.Diff(shown.Text, got); diff != "" && !*update {
			t.Errorf("queries.md:%d: %s: another result; renew the results with: go test ./docs -run Queries -update\n%s", shown.Line, b.Heading, diff)
		}
	}
	if questions < 20 {
		t.Errorf("%d questions, want 20 or more", questions)
	}
	if *update && !t.Failed() {
		rewrite(t, "queries.md", blocks, results)
	}
}

// update is a flag of go test: write the results into the document.
var update = flag.Bool("update", false, "write the results into the documents")

// ask returns the result of one query as text.
func ask(t testing.TB, conn *pgx.Conn, sql string) (string, error) {
	t.Helper()
	results, err := conn.PgConn().Exec(t.Context(), sql).ReadAll()
	if err != nil {
		return "", err
	}
	if len(results) != 1 {
		t.Fatalf("%d statements in one block", len(results))
	}
	return table(results[0]), results[0].Err
}

// rewrite puts results into the blocks of the document that begin in their lines.
func rewrite(t testing.TB, path string, blocks []doctest.Block, results map[int]string) {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.SplitAfter(string(text), "\n")
	var b strings.Builder
	next := 0
	for _, block := range blocks {
		result, ok := results[block.Line]
		if !ok {
			continue
		}
		b.WriteString(strings.Join(lines[next:block.Line-1], ""))
		b.WriteString(result)
		next = block.Line - 1 + strings.Count(block.Text, "\n")
	}
	b.WriteString(strings.Join(lines[next:], ""))
	if err := os.WriteFile(path, []byte(b.String()), 0o644); err != nil {
		t.Fatal(err)
	}
}
