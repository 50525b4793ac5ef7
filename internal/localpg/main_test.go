package localpg_test

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"polarmirror/internal/localpg"
)

// helperEnv makes the test binary a process that uses the database of the folder
// it names until its standard input ends.
const helperEnv = "LOCALPG_TEST_DATA_DIR"

const patience = 2 * time.Minute // for what must happen, however slow the machine

func TestMain(m *testing.M) {
	if dir := os.Getenv(helperEnv); dir != "" {
		os.Exit(helperMain(dir))
	}
	os.Exit(run(m))
}

// template is a folder with a database in it, made once for all tests that are
// not about making one.
var template struct {
	dir  string
	made func() error
}

func run(m *testing.M) int {
	dir, err := os.MkdirTemp("", "localpg-test-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	template.dir = filepath.Join(dir, ".syncd")
	template.made = sync.OnceValue(func() error {
		ctx := context.Background()
		s, err := localpg.Start(ctx, options(template.dir))
		if err != nil {
			return err
		}
		// Each copy finds a port of its own.
		return errors.Join(s.Close(ctx), os.Remove(filepath.Join(template.dir, "port")))
	})
	return m.Run()
}

type address struct{ URL, PSQL string }

func helperMain(dir string) int {
	ctx := context.Background()
	s, err := localpg.Start(ctx, options(dir))
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	if err := json.NewEncoder(os.Stdout).Encode(address{s.URL(), s.PSQL()}); err != nil {
		return 1
	}
	_, _ = io.Copy(io.Discard, os.Stdin)
	if err := s.Close(ctx); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

func options(dir string) localpg.Options {
	return localpg.Options{DataDir: dir, Settings: map[string]string{
		"fsync":          "off",
		"shared_buffers": "16MB",
		// Fewer processes to start with each server.
		"autovacuum":                      "off",
		"max_logical_replication_workers": "0",
	}}
}

// dataDir names a folder that does not exist yet, below one that only its owner
// may enter, in a path that shells and addresses trip over.
func dataDir(t testing.TB) string {
	t.Helper()
	private := filepath.Join(t.TempDir(), `it's 100% "pri$vate" & +more`)
	if err := os.Mkdir(private, 0o700); err != nil {
		t.Fatal(err)
	}
	return filepath.Join(private, ".syncd")
}

// madeDir is such a folder with a database in it.
func madeDir(t testing.TB) string {
	t.Helper()
	if err := template.made(); err != nil {
		t.Fatal(err)
	}
	dir := dataDir(t)
	if out, err := exec.Command("cp", "-a", template.dir, dir).CombinedOutput(); err != nil {
		t.Fatalf("copy the database: %v: %s", err, out)
	}
	return dir
}

// start starts a server that is closed when the test ends.
func start(t testing.TB, opts localpg.Options) *localpg.Server {
	t.Helper()
	s, err := localpg.Start(t.Context(), opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { stop(t, s) })
	return s
}

func stop(t testing.TB, s *localpg.Server) {
	t.Helper()
	if err := s.Close(context.Background()); err != nil {
		t.Error(err)
	}
}

// helper is another process using a database.
type helper struct {
	address
	cmd   *exec.Cmd
	stdin io.Closer
}

func startHelper(t testing.TB, dir string, change func(*exec.Cmd)) *helper {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(exe)
	cmd.Env = append(os.Environ(), helperEnv+"="+dir)
	cmd.Stderr = os.Stderr
	if change != nil {
		change(cmd)
	}
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
	h := &helper{cmd: cmd, stdin: stdin}
	t.Cleanup(func() { _ = stdin.Close() })
	line, err := bufio.NewReader(stdout).ReadBytes('\n')
	if err != nil {
		t.Fatalf("helper did not start: %v", err)
	}
	if err := json.Unmarshal(line, &h.address); err != nil {
		t.Fatal(err)
	}
	return h
}

// leave lets the helper close its use and end.
func (h *helper) leave(t testing.TB) {
	t.Helper()
	if err := h.stdin.Close(); err != nil {
		t.Fatal(err)
	}
	if err := h.cmd.Wait(); err != nil {
		t.Fatalf("helper: %v", err)
	}
}

// kill ends the helper as kill -9 does.
func (h *helper) kill(t testing.TB) {
	t.Helper()
	if err := h.cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = h.cmd.Wait() // reports the kill
}

// postmasterPID is the process id in the folder's pid file, 0 if there is none.
func postmasterPID(t testing.TB, dir string) int {
	t.Helper()
	raw, err := os.ReadFile(filepath.Join(dir, "data", "postmaster.pid"))
	if os.IsNotExist(err) {
		return 0
	}
	if err != nil {
		t.Fatal(err)
	}
	first, _, _ := strings.Cut(string(raw), "\n")
	pid, err := strconv.Atoi(first)
	if err != nil {
		t.Fatalf("pid file: %v", err)
	}
	return pid
}

func alive(pid int) bool { return pid != 0 && syscall.Kill(pid, 0) == nil }

// assertStopped fails the test if the folder's server, known by its process id,
// runs.
func assertStopped(t testing.TB, dir string, pid int) {
	t.Helper()
	if got := postmasterPID(t, dir); got != 0 {
		t.Errorf("the pid file still names process %d", got)
	}
	eventually(t, "the server ends", func() bool { return !alive(pid) })
	if _, err := os.Stat(filepath.Join(dir, "pgpass")); !os.IsNotExist(err) {
		t.Errorf("the psql password file outlived the server: %v", err)
	}
}

func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	deadline := time.Now().Add(patience)
	for !ok() {
		if time.Now().After(deadline) {
			t.Fatalf("never happened: %s", what)
		}
		time.Sleep(10 * time.Millisecond)
	}
}

func query(t testing.TB, url, sql string) string {
	t.Helper()
	got, err := tryQuery(t.Context(), url, sql)
	if err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
	return got
}

func tryQuery(ctx context.Context, url, sql string) (string, error) {
	conn, err := pgx.Connect(ctx, url)
	if err != nil {
		return "", err
	}
	defer conn.Close(ctx)
	var got string
	err = conn.QueryRow(ctx, sql).Scan(&got)
	return got, err
}

func exec1(t testing.TB, url, sql string) {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(t.Context())
	if _, err := conn.Exec(t.Context(), sql); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
}

// large marks a test that starts several servers and gains nothing from the race
// detector: with -short it is left out.
func large(t *testing.T) {
	t.Helper()
	if testing.Short() {
		t.Skip("large, and -short")
	}
}
