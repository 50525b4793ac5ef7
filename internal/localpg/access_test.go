package localpg_test

import (
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"

	"polarmirror/internal/localpg"
)

func TestOnlyItsOwnerGetsIn(t *testing.T) {
	t.Parallel()
	dir := madeDir(t)
	s := start(t, options(dir))
	address, err := url.Parse(s.URL())
	if err != nil {
		t.Fatal(err)
	}
	t.Run("files are their owner's alone", func(t *testing.T) {
		want := map[string]os.FileMode{"": 0o700, "data": 0o700, "password": 0o600, "pgpass": 0o600, "postgres.log": 0o600}
		got := map[string]os.FileMode{}
		for name := range want {
			info, err := os.Stat(filepath.Join(dir, name))
			if err != nil {
				t.Fatal(err)
			}
			got[name] = info.Mode().Perm()
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("modes (-want +got):\n%s", diff)
		}
	})
	t.Run("nobody gets in without the password", func(t *testing.T) {
		for _, user := range []*url.Userinfo{url.User("syncd"), url.UserPassword("syncd", "guess"), url.User("postgres")} {
			u := *address
			u.User = user
			if _, err := tryQuery(t.Context(), u.String(), `SELECT 'in'`); err == nil {
				t.Errorf("%s got in", user.Username())
			}
		}
		if got := query(t, s.URL(), `SELECT string_agg(DISTINCT auth_method, ',') FROM pg_hba_file_rules`); got != "scram-sha-256" {
			t.Errorf("ways in: %s", got)
		}
		if got := query(t, s.URL(), `SELECT current_setting('listen_addresses') || current_setting('unix_socket_directories')`); got != "127.0.0.1" {
			t.Errorf("listens on %q", got)
		}
	})
	t.Run("the password is nowhere it could be seen", func(t *testing.T) {
		password, _ := address.User.Password()
		if len(password) < 20 {
			t.Fatalf("a password of %d characters", len(password))
		}
		processes, err := exec.Command("ps", "axww", "-o", "args").Output()
		if err != nil {
			t.Fatal(err)
		}
		serverLog, err := os.ReadFile(filepath.Join(dir, "postgres.log"))
		if err != nil {
			t.Fatal(err)
		}
		for where, text := range map[string]string{"ps": string(processes), "log": string(serverLog), "psql line": s.PSQL()} {
			if strings.Contains(text, password) {
				t.Errorf("%s shows the password", where)
			}
		}
	})
	t.Run("the psql line opens the database", func(t *testing.T) {
		// What psql is given once the shell has read the line.
		program, _, _ := strings.Cut(s.PSQL(), ` "`)
		argument, err := exec.Command("sh", "-c", "printf %s"+strings.TrimPrefix(s.PSQL(), program)).Output()
		if err != nil {
			t.Fatal(err)
		}
		if got := query(t, string(argument), `SELECT current_database() || current_user`); got != "syncdsyncd" {
			t.Errorf("got %q", got)
		}
		// psql comes with most installations, but not with fetched binaries.
		if err := exec.Command("sh", "-c", "command -v "+program).Run(); err != nil {
			return
		}
		out, err := exec.Command("sh", "-c", s.PSQL()+` -w -Atc 'SELECT current_database() || current_user'`).CombinedOutput()
		if err != nil || strings.TrimSpace(string(out)) != "syncdsyncd" {
			t.Errorf("psql: %v: %s", err, out)
		}
	})
}

// TestAnotherUserThanRootCanRunItAlsoAfterKilledStarts, and then
// root cannot, whose files would lock that user out.
func TestAnotherUserThanRootCanRunItAlsoAfterKilledStarts(t *testing.T) {
	t.Parallel()
	large(t)
	dir := dataDir(t)
	private := filepath.Dir(dir)
	const nobody = 65534
	becomeNobody := func(cmd *exec.Cmd) {}
	if os.Geteuid() == 0 {
		// The folders above are root's; the test binary is reached by descriptor.
		for up := filepath.Dir(private); up != os.TempDir() && up != "/"; up = filepath.Dir(up) {
			if err := os.Chmod(up, 0o711); err != nil {
				t.Fatal(err)
			}
		}
		if err := os.Chown(private, nobody, nobody); err != nil {
			t.Fatal(err)
		}
		becomeNobody = func(cmd *exec.Cmd) {
			binary, err := os.Open(cmd.Path)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = binary.Close() })
			cmd.ExtraFiles = []*os.File{binary}
			cmd.Path, cmd.Dir = "/proc/self/fd/3", "/"
			cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}
		}
	}
	killWhileStarting(t, dir, becomeNobody)
	h := startHelper(t, dir, becomeNobody)
	pid := postmasterPID(t, dir)
	if got := query(t, h.URL, `SELECT 'up'`); got != "up" {
		t.Errorf("got %q", got)
	}
	if os.Geteuid() == 0 {
		_, err := localpg.Start(t.Context(), options(dir))
		assertSays(t, err, "belongs to user id 65534", "run as that user")
	}
	h.leave(t)
	assertStopped(t, dir, pid)
}

// killWhileStarting starts a process three times and kills it, each time at a later
// step. What it leaves must break no later start.
func killWhileStarting(t *testing.T, dir string, change func(*exec.Cmd)) {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	for _, stage := range []string{"password", "data.new-*", "data/postmaster.pid"} {
		cmd := exec.Command(exe)
		cmd.Env = append(os.Environ(), helperEnv+"="+dir)
		change(cmd)
		stdin, err := cmd.StdinPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		eventually(t, stage+" appears", func() bool { return appeared(dir, stage) })
		if err := cmd.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		_ = cmd.Wait() // reports the kill
		_ = stdin.Close()
	}
}
