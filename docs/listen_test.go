package docs

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"polarmirror/internal/doctest"
)

// TestExampleOfListeningPrintsANewBalance builds the program in replicas.md, and runs
// it while a customer's balance changes.
func TestExampleOfListeningPrintsANewBalance(t *testing.T) {
	t.Parallel()
	w := newEnv(t)
	w.look(w.clock)
	listening := startExample(t, w.db.URL)
	for began := false; !began; {
		const sql = `SELECT EXISTS (SELECT FROM pg_stat_activity WHERE datname = current_database() AND query LIKE 'LISTEN%' AND state = 'idle')`
		if err := w.db.Pool.QueryRow(t.Context(), sql).Scan(&began); err != nil {
			t.Fatal(err)
		}
	}
	row := w.sim.Listed(w.sim.Organizations()[0].ID)[7]
	changed, err := w.sim.Consume(row.ID, "3.25")
	if err != nil {
		t.Fatal(err)
	}
	w.look(w.clock.Add(time.Hour))
	customer := row.CustomerID.String()
	if row.CustomerName != nil {
		customer = *row.CustomerName
	}
	var balance string
	if err := w.db.Pool.QueryRow(t.Context(), `SELECT balance::text FROM polar.customer_meters WHERE id = $1`, changed.ID).Scan(&balance); err != nil {
		t.Fatal(err)
	}
	want := fmt.Sprintf("%s, %s: %s", customer, row.MeterName, balance)
	for line := range listening {
		if line == want {
			return
		}
	}
	t.Errorf("the example ended without printing %q", want)
}

// startExample returns the lines that the example prints.
func startExample(t *testing.T, url string) <-chan string {
	t.Helper()
	source, binary := filepath.Join(t.TempDir(), "main.go"), filepath.Join(t.TempDir(), "listen")
	for _, b := range doctest.Blocks(t, "replicas.md") {
		if b.Language == "go" {
			if err := os.WriteFile(source, []byte(b.Text), 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	if out, err := exec.CommandContext(t.Context(), "go", "build", "-o", binary, source).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	cmd := exec.CommandContext(t.Context(), binary)
	cmd.Env = append(os.Environ(), "DATABASE_URL="+url)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	lines := make(chan string)
	go func() {
		defer close(lines)
		for scanner := bufio.NewScanner(out); scanner.Scan(); {
			select {
			case lines <- scanner.Text():
			case <-t.Context().Done():
				return
			}
		}
	}()
	return lines
}
