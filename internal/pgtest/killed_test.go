package pgtest

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/jackc/pgx/v5"
)

// helperEnv makes the test binary another test process: it holds a database
// until its standard input ends.
const helperEnv = "PGTEST_TEST_HELPER"

func TestMain(m *testing.M) {
	if os.Getenv(helperEnv) != "" {
		os.Exit(helperMain())
	}
	defer Keep()()
	m.Run()
}

func helperMain() int {
	ctx := context.Background()
	c, err := openCluster(ctx)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	db, err := c.clone(ctx, "template0")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	fmt.Println(db.Name)
	_, _ = io.Copy(io.Discard, os.Stdin)
	db.Pool.Close()
	if err := errors.Join(c.drop(ctx, db.Name), c.close(ctx)); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

// otherProcess starts a helper and returns it with its database's name.
func otherProcess(t testing.TB) (*exec.Cmd, io.Closer, string) {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(exe)
	cmd.Env = append(os.Environ(), helperEnv+"=1")
	cmd.Stderr = os.Stderr
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	name, err := bufio.NewReader(stdout).ReadString('\n')
	if err != nil {
		t.Fatalf("helper did not start: %v", err)
	}
	return cmd, stdin, strings.TrimSpace(name)
}

func exists(t testing.TB, c *cluster, name string) bool {
	t.Helper()
	var found bool
	const find = `SELECT EXISTS (SELECT FROM pg_database WHERE datname = $1)`
	if err := c.admin.QueryRow(t.Context(), find, name).Scan(&found); err != nil {
		t.Fatal(err)
	}
	return found
}

func TestDatabasesOfKilledProcessesAreSweptAndOthersAreNot(t *testing.T) {
	t.Parallel()
	c := useCluster(t)
	killed, killedIn, lost := otherProcess(t)
	living, livingIn, used := otherProcess(t)
	if err := killed.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = killed.Wait() // reports the kill
	_ = killedIn.Close()
	// The server takes a moment to notice that its client is gone.
	for exists(t, c, lost) {
		if err := c.sweep(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if !exists(t, c, used) {
		t.Error("the database of a living process was dropped")
	}
	if err := livingIn.Close(); err != nil {
		t.Fatal(err)
	}
	if err := living.Wait(); err != nil {
		t.Errorf("helper: %v", err)
	}
	if exists(t, c, used) {
		t.Error("a process that ended well left its database")
	}
}

// building is access to the same server with another template, which is dropped when
// the test ends.
func building(t testing.TB, migrate func(context.Context, string) error) *cluster {
	t.Helper()
	c := useCluster(t)
	other := &cluster{config: c.config, address: c.address, admin: c.admin, id: c.id, strategy: c.strategy,
		template: templatePrefix + month() + "_" + randomID(), migrate: migrate}
	t.Cleanup(func() {
		if err := c.drop(context.Background(), other.template); err != nil {
			t.Error(err)
		}
	})
	return other
}

func TestFailedMigrationLeavesNoTemplate(t *testing.T) {
	t.Parallel()
	broken := errors.New("broken")
	c := building(t, func(context.Context, string) error { return broken })
	if _, err := c.clone(t.Context(), c.template); !errors.Is(err, broken) {
		t.Fatalf("got %v", err)
	}
	if exists(t, c, c.template) {
		t.Error("there is a template")
	}
}

func TestTemplateIsBuiltOnceForAllTestsWhichDoNotSeeEachOther(t *testing.T) {
	t.Parallel()
	var built atomic.Int32
	c := building(t, func(ctx context.Context, url string) error {
		built.Add(1)
		return createVisits(ctx, url)
	})
	t.Run("tests", func(t *testing.T) {
		for range 3 {
			t.Run("one", func(t *testing.T) {
				t.Parallel()
				db := newDatabase(t, c, c.template)
				var rows int
				const sql = `WITH visit AS (INSERT INTO visits VALUES (1)) SELECT count(*) FROM visits`
				for want := range 2 {
					if err := db.Pool.QueryRow(t.Context(), sql).Scan(&rows); err != nil || rows != want {
						t.Errorf("%d rows, want %d; %v", rows, want, err)
					}
				}
			})
		}
	})
	if n := built.Load(); n != 1 {
		t.Errorf("migrated %d times", n)
	}
}

// TestTemplateThatAnotherProcessHasJustFinishedIsUsed, and what was built twice is gone.
func TestTemplateThatAnotherProcessHasJustFinishedIsUsed(t *testing.T) {
	t.Parallel()
	other := building(t, createVisits)
	var c *cluster
	var ours string
	c = building(t, func(ctx context.Context, url string) error {
		ours = url[strings.LastIndex(url, testPrefix):]
		return other.build(ctx, c.template)
	})
	if err := c.build(t.Context(), c.template); err != nil {
		t.Fatal(err)
	}
	ours, _, _ = strings.Cut(ours, "?")
	if !exists(t, c, c.template) || exists(t, c, ours) {
		t.Errorf("the template is missing, or %s is left", ours)
	}
}

func createVisits(ctx context.Context, url string) error {
	conn, err := pgx.Connect(ctx, url)
	if err != nil {
		return err
	}
	_, err = conn.Exec(ctx, `CREATE TABLE visits (id int)`)
	return errors.Join(err, conn.Close(ctx))
}
