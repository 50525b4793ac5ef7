package localpg

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
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
	found, err := installed(ctx, acct, binDir)
	if err != nil {
		return Binaries{}, err
	}
	if best, ok := newest(found, 0); ok {
		return best, nil
	}
	if binDir != "" {
		return Binaries{}, noneIn(binDir)
	}
	return Binaries{}, fmt.Errorf("%w of version %d to %d is installed: %s", ErrNoPostgres, oldestMajor, newestMajor, cure(0))
}

func noneIn(binDir string) error {
	return fmt.Errorf("%w of version %d to %d that this account can run is in %s", ErrNoPostgres, oldestMajor, newestMajor, binDir)
}

// installed lists what the account can run, in the order looked at: what is in
// binDir, or in all the usual places if that is "".
func installed(ctx context.Context, acct account, binDir string) ([]Binaries, error) {
	dirs := []string{binDir}
	if binDir == "" {
		dirs = candidateDirs()
	}
	var found []Binaries
	seen := map[string]bool{}
	for _, dir := range dirs {
		dir, err := filepath.EvalSymlinks(dir)
		if err != nil || seen[dir] {
			continue
		}
		seen[dir] = true
		b, err := probe(ctx, acct, dir)
		if ctx.Err() != nil {
			return nil, fmt.Errorf("look for Postgres: %w", ctx.Err())
		}
		if err == nil {
			found = append(found, b)
		}
	}
	return found, nil
}

func candidateDirs() []string {
	var dirs []string
	for _, program := range []string{"postgres", "initdb", "pg_ctl"} {
		path, err := exec.LookPath(program)
		if err != nil {
			continue
		}
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
		matches, err := filepath.Glob(pattern)
		if err == nil { // the patterns are constants, none is malformed
			dirs = append(dirs, matches...)
		}
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
	out, err := acct.command(ctx, b.path("postgres"), "--version").Output()
	if err != nil {
		err = fmt.Errorf("run %s --version: %w", b.path("postgres"), err)
		var exit *exec.ExitError
		if errors.As(err, &exit) {
			err = describe(err, exit.Stderr)
		}
		return Binaries{}, err
	}
	// postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)
	_, rest, _ := strings.Cut(string(out), "(PostgreSQL) ")
	fields := strings.Fields(rest)
	if len(fields) == 0 {
		return Binaries{}, fmt.Errorf("%s --version said %.80q", b.path("postgres"), out)
	}
	b.Version = fields[0]
	digits := strings.IndexFunc(b.Version, func(r rune) bool { return r < '0' || r > '9' })
	if digits < 0 {
		digits = len(b.Version)
	}
	if b.Major, err = strconv.Atoi(b.Version[:digits]); err != nil {
		return Binaries{}, fmt.Errorf("%s has version %.40q", b.path("postgres"), b.Version)
	}
	return b, nil
}

// newest picks the newest supported version, or the newest of one major version
// unless that is 0. Equals: the first.
func newest(found []Binaries, major int) (Binaries, bool) {
	var best Binaries
	for _, b := range found {
		if b.Major < oldestMajor || b.Major > newestMajor || major != 0 && b.Major != major {
			continue
		}
		if b.Major > best.Major || b.Major == best.Major && minor(b) > minor(best) {
			best = b
		}
	}
	return best, best.Major != 0
}

func minor(b Binaries) int {
	_, rest, _ := strings.Cut(b.Version, ".")
	n, err := strconv.Atoi(rest)
	if err != nil {
		return 0 // "18beta1"
	}
	return n
}

// resolve finds the binaries for the data folder: of the version that wrote it,
// which is the only one that can read it, or the newest if it is new.
func (s *Server) resolve(ctx context.Context) (Binaries, error) {
	major, err := dataMajor(s.home.path(dataName))
	if err != nil {
		return Binaries{}, err
	}
	var found []Binaries
	if !s.opts.IgnoreInstalled {
		if found, err = installed(ctx, s.account, s.opts.BinDir); err != nil {
			return Binaries{}, err
		}
	}
	if b, ok := newest(found, major); ok {
		return b, nil
	}
	if s.opts.BinDir != "" {
		return Binaries{}, noneIn(s.opts.BinDir)
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
	debian, brew := "postgresql", "postgresql@17"
	if major != 0 {
		debian = fmt.Sprintf("postgresql-%d", major)
		brew = fmt.Sprintf("postgresql@%d", major)
	}
	return fmt.Sprintf("install it (apt-get install %s, or brew install %s), or set database.url", debian, brew)
}

// dataMajor is the major version of the data folder, 0 if there is none yet.
func dataMajor(data string) (int, error) {
	raw, err := os.ReadFile(filepath.Join(data, "PG_VERSION"))
	if errors.Is(err, os.ErrNotExist) {
		if _, err := os.Stat(data); err == nil {
			return 0, fmt.Errorf("%s holds no database: remove it to begin with an empty one", data)
		}
		return 0, nil
	}
	if err != nil {
		return 0, fmt.Errorf("read the version of the data: %w", err)
	}
	major, err := strconv.Atoi(strings.TrimSpace(string(raw)))
	if err != nil {
		return 0, fmt.Errorf("%s/PG_VERSION says %.20q: the data can't be used", data, raw)
	}
	return major, nil
}
