package localpg

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

const (
	oldestMajor = 14
	newestMajor = 18

	probeTime = 10 * time.Second // one `postgres --version`
)

// ErrNoPostgres means that no usable Postgres is installed and none could be
// fetched. The message around it names the cure.
var ErrNoPostgres = errors.New("no Postgres")

// Binaries is a usable set of Postgres's server programs.
type Binaries struct {
	Dir     string // holds initdb and postgres; symbolic links resolved
	Major   int    // 15
	Version string // "15.18"
}

func (b Binaries) path(program string) string { return filepath.Join(b.Dir, program) }

// Find returns the Postgres of versions 14 to 18 whose programs are in binDir.
// If that is "", it returns the newest one on PATH or where Linux distributions,
// Homebrew and Postgres.app put it.
func Find(ctx context.Context, binDir string) (Binaries, error) {
	acct, err := accountFor("")
	if err != nil {
		return Binaries{}, err
	}
	return installed(ctx, acct, binDir, 0)
}

// installed returns the newest Postgres of one major version, or of any if that
// is 0, that the account can run from binDir, or from the usual places if that is
// "".
func installed(ctx context.Context, acct account, binDir string, major int) (Binaries, error) {
	dirs := []string{binDir}
	if binDir == "" {
		dirs = candidateDirs()
	}
	var best Binaries
	seen := map[string]bool{}
	for _, dir := range dirs {
		dir, err := filepath.EvalSymlinks(dir)
		if err != nil || seen[dir] {
			continue
		}
		seen[dir] = true
		b, err := probe(ctx, acct, dir)
		if ctx.Err() != nil {
			return Binaries{}, fmt.Errorf("look for Postgres: %w", ctx.Err())
		}
		if err == nil && b.better(best, major) {
			best = b
		}
	}
	switch {
	case best.Major != 0:
		return best, nil
	case binDir != "":
		return Binaries{}, fmt.Errorf("%w of version %d to %d that this account can run is in %s", ErrNoPostgres, oldestMajor, newestMajor, binDir)
	}
	return Binaries{}, fmt.Errorf("%w of version %d to %d is installed: %s", ErrNoPostgres, oldestMajor, newestMajor, cure(major))
}

func candidateDirs() []string {
	var dirs []string
	if path, err := exec.LookPath("pg_ctl"); err == nil {
		if path, err = filepath.EvalSymlinks(path); err == nil {
			dirs = append(dirs, filepath.Dir(path))
		}
	}
	for _, pattern := range []string{
		"/usr/lib/postgresql/*/bin", // Debian, Ubuntu
		"/usr/pgsql-*/bin",          // PGDG packages for Fedora, RHEL, SUSE
		"/usr/libexec/postgresql*",  // Alpine
		"/opt/homebrew/opt/postgresql*/bin",
		"/usr/local/opt/postgresql*/bin", // Homebrew on Intel
		"/Applications/Postgres.app/Contents/Versions/*/bin",
		"/usr/local/pgsql/bin", // built from source
	} {
		matches, _ := filepath.Glob(pattern) // the patterns are well formed
		dirs = append(dirs, matches...)
	}
	return dirs
}

// probe runs the server's --version as the account that will run it: what that
// account can't run is of no use, whatever its mode bits say.
func probe(ctx context.Context, acct account, dir string) (Binaries, error) {
	b := Binaries{Dir: dir}
	if _, err := os.Stat(b.path("initdb")); err != nil {
		return Binaries{}, err
	}
	ctx, cancel := context.WithTimeout(ctx, probeTime)
	defer cancel()
	var said strings.Builder
	cmd := acct.command(ctx, b.path("postgres"), "--version")
	cmd.Stderr = &said
	out, err := cmd.Output()
	if err != nil {
		return Binaries{}, describe(ctx, b.path("postgres")+" --version", err, said.String())
	}
	// postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)
	if _, err := fmt.Sscanf(string(out), "postgres (PostgreSQL) %s", &b.Version); err != nil {
		return Binaries{}, fmt.Errorf("%s --version said %.80q", b.path("postgres"), out)
	}
	_, err = fmt.Sscanf(b.Version, "%d", &b.Major) // of 15.18, and of 18beta1
	return b, err
}

// better reports whether b is supported, of the major version unless that is 0,
// and newer than other.
func (b Binaries) better(other Binaries, major int) bool {
	return b.Major >= oldestMajor && b.Major <= newestMajor && (major == 0 || b.Major == major) && b.Major > other.Major
}

// resolve finds the binaries for the data folder: of the version that wrote it,
// which is the only one that can read it, or the newest if it is new.
func (s *Server) resolve(ctx context.Context) (Binaries, error) {
	major := s.home.number(dataName + "/PG_VERSION") // 0 for new data, or if Postgres will say what is wrong with it
	if !s.opts.ignoreInstalled {
		b, err := installed(ctx, s.account, s.opts.BinDir, major)
		if s.opts.BinDir != "" || !errors.Is(err, ErrNoPostgres) {
			return b, err
		}
	}
	b, err := s.fetch(ctx, major)
	if err == nil {
		return b, nil
	}
	if major != 0 {
		return Binaries{}, fmt.Errorf("%w %d, which wrote the data in %s, is installed or could be fetched (%w): %s, or remove that folder to begin with an empty database",
			ErrNoPostgres, major, s.home.dir, err, cure(major))
	}
	return Binaries{}, fmt.Errorf("%w of version %d to %d is installed, and none could be fetched (%w): %s", ErrNoPostgres, oldestMajor, newestMajor, err, cure(0))
}

func cure(major int) string {
	if major == 0 {
		return "install it (apt-get install postgresql, or brew install postgresql@17), or set database.url"
	}
	return fmt.Sprintf("install it (apt-get install postgresql-%[1]d, or brew install postgresql@%[1]d), or set database.url", major)
}
