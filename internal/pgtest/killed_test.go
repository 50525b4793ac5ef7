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
	"sync"
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
	db, err := c.clone(ctx, nil, "")
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

func TestTemplateOfAKilledRunIsBuiltAgain(t *testing.T) {
	t.Parallel()
	c := useCluster(t)
	key := randomID()
	// What a kill in the middle of migrate leaves.
	if err := c.createFrom(t.Context(), templateName(buildPrefix, key), "template0"); err != nil {
		t.Fatal(err)
	}
	half, err := pgx.Connect(t.Context(), c.url(templateName(buildPrefix, key)))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := half.Exec(t.Context(), `CREATE TABLE visits (half text)`); err != nil {
		t.Fatal(err)
	}
	if err := half.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	dropTemplateAfter(t, c, key)
	db := newDatabase(t, createVisits, key)
	if _, err := db.Pool.Exec(t.Context(), `INSERT INTO visits (id) VALUES (1)`); err != nil {
		t.Error(err)
	}
}

func TestFailedMigrationLeavesNoTemplate(t *testing.T) {
	t.Parallel()
	c := useCluster(t)
	key := randomID()
	dropTemplateAfter(t, c, key)
	broken := errors.New("broken")
	_, err := c.clone(t.Context(), func(context.Context, string) error { return broken }, key)
	if !errors.Is(err, broken) {
		t.Fatalf("got %v", err)
	}
	newDatabase(t, createVisits, key)
}

func TestTemplateIsBuiltOnceForAllTests(t *testing.T) {
	t.Parallel()
	c := useCluster(t)
	key := randomID()
	dropTemplateAfter(t, c, key)
	var built atomic.Int32
	var all sync.WaitGroup
	for range 4 {
		all.Go(func() {
			db, err := c.clone(t.Context(), func(ctx context.Context, url string) error {
				built.Add(1)
				return createVisits(ctx, url)
			}, key)
			if err != nil {
				t.Error(err)
				return
			}
			db.Pool.Close()
			if err := c.drop(t.Context(), db.Name); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	if n := built.Load(); n != 1 {
		t.Errorf("migrated %d times", n)
	}
}

func dropTemplateAfter(t testing.TB, c *cluster, key string) {
	t.Helper()
	t.Cleanup(func() {
		for _, prefix := range []string{templatePrefix, buildPrefix} {
			if err := c.drop(context.Background(), templateName(prefix, key)); err != nil {
				t.Error(err)
			}
		}
	})
}

func createVisits(ctx context.Context, url string) error {
	conn, err := pgx.Connect(ctx, url)
	if err != nil {
		return err
	}
	_, err = conn.Exec(ctx, `CREATE TABLE visits (id int)`)
	return errors.Join(err, conn.Close(ctx))
}
