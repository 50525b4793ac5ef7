package localpg

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	embeddedpostgres "github.com/fergusstrange/embedded-postgres"
	"go.uber.org/zap"
)

// preferredMajor is fetched for a new database.
const preferredMajor = 17

// fetch returns binaries from the cache, downloading them first if they are not
// there. major 0 means any.
//
// The download can't be interrupted: when ctx ends, fetch returns and leaves it
// behind, to end with the process. A crash leaves a temporary folder, which the
// next fetch removes.
func (s *Server) fetch(ctx context.Context, major int) (Binaries, error) {
	if major == 0 {
		major = preferredMajor
	}
	version, ok := map[int]embeddedpostgres.PostgresVersion{
		14: embeddedpostgres.V14,
		15: embeddedpostgres.V15,
		16: embeddedpostgres.V16,
		17: embeddedpostgres.V17,
		18: embeddedpostgres.V18,
	}[major]
	if !ok {
		return Binaries{}, fmt.Errorf("version %d is not offered", major)
	}
	cache, err := s.cacheDir()
	if err != nil {
		return Binaries{}, err
	}
	lock, err := acquire(ctx, filepath.Join(cache, "lock"), exclusive)
	if err != nil {
		return Binaries{}, err
	}
	defer lock.release()
	final := filepath.Join(cache, "postgres-"+string(version))
	if b, err := probe(ctx, s.account, filepath.Join(final, "bin")); err == nil {
		return b, nil
	}
	if leftovers, err := filepath.Glob(filepath.Join(cache, "fetch-*")); err == nil {
		for _, dir := range leftovers {
			_ = os.RemoveAll(dir)
		}
	}
	s.log.Info("fetching Postgres", zap.String("version", string(version)), zap.String("to", final))
	if err := s.download(ctx, version, cache, final); err != nil {
		return Binaries{}, err
	}
	b, err := probe(ctx, s.account, filepath.Join(final, "bin"))
	if err != nil {
		return Binaries{}, fmt.Errorf("what was fetched does not run here: %w", err)
	}
	return b, nil
}

// cacheDir is a folder that nobody but us and root can write, and that the
// account running Postgres can enter.
func (s *Server) cacheDir() (string, error) {
	dir, mode := sharedCacheDir, os.FileMode(0o755)
	switch {
	case s.opts.CacheDir != "":
		dir = s.opts.CacheDir
	case !s.account.drop:
		base, err := os.UserCacheDir()
		if err != nil {
			base = s.home.dir // no home folder
		}
		dir, mode = filepath.Join(base, "syncd"), 0o700
	}
	if err := os.MkdirAll(dir, mode); err != nil {
		return "", fmt.Errorf("make a place for fetched binaries: %w", err)
	}
	return dir, nil
}

// download fetches and unpacks into a temporary folder and moves it to final.
func (s *Server) download(ctx context.Context, version embeddedpostgres.PostgresVersion, cache, final string) error {
	work, err := os.MkdirTemp(cache, "fetch-")
	if err != nil {
		return fmt.Errorf("make a place for fetched binaries: %w", explain(err))
	}
	unpacked := filepath.Join(work, "postgres")
	done := make(chan error, 1)
	go func() {
		done <- downloadOnly(version, work, unpacked, s.opts.BinaryRepository)
	}()
	select {
	case <-ctx.Done():
		return fmt.Errorf("fetch Postgres: %w", ctx.Err())
	case err = <-done:
	}
	defer os.RemoveAll(work)
	if _, statErr := os.Stat(filepath.Join(unpacked, "bin", "postgres")); statErr != nil {
		if err == nil {
			return errors.New("the archive has no server in it")
		}
		// Where the library ran a program, that program's output ends its error.
		return fmt.Errorf("%.300s", lastLine(err.Error()))
	}
	if err := os.Chmod(unpacked, 0o755); err != nil {
		return err
	}
	if err := os.RemoveAll(final); err != nil {
		return err
	}
	return os.Rename(unpacked, final)
}

// downloadOnly uses embedded-postgres to download and unpack, and for nothing
// else: the server it would start has a well-known password and can't run as
// root. The library has no call for that, so it is given a data folder that
// looks initialized but has no configuration: after unpacking, its start ends
// at once with an error, which the caller ignores if the binaries are there.
func downloadOnly(version embeddedpostgres.PostgresVersion, work, unpacked, repository string) error {
	data := filepath.Join(work, "no-data")
	if err := os.MkdirAll(data, 0o700); err != nil {
		return err
	}
	major, _, _ := strings.Cut(string(version), ".")
	if err := os.WriteFile(filepath.Join(data, "PG_VERSION"), []byte(major+"\n"), 0o600); err != nil {
		return err
	}
	port, err := freePort()
	if err != nil {
		return err
	}
	config := embeddedpostgres.DefaultConfig().
		Version(version).
		Port(uint32(port)).
		CachePath(filepath.Join(work, "download")).
		RuntimePath(filepath.Join(work, "runtime")).
		BinariesPath(unpacked).
		DataPath(data).
		Logger(io.Discard)
	if repository != "" {
		config = config.BinaryRepositoryURL(repository)
	}
	defer removeNewFiles(filepath.Join(os.TempDir(), "embedded_postgres_log*"))()
	server := embeddedpostgres.NewDatabase(config)
	if err := server.Start(); err != nil {
		return err
	}
	return server.Stop()
}

// removeNewFiles returns a function that removes what matches the pattern then
// and did not yet at the call: the library leaves its log behind, and can't be
// told where.
func removeNewFiles(pattern string) func() {
	before, err := filepath.Glob(pattern)
	if err != nil {
		return func() {}
	}
	return func() {
		after, err := filepath.Glob(pattern)
		if err != nil {
			return
		}
		for _, path := range after {
			if !slices.Contains(before, path) {
				_ = os.Remove(path)
			}
		}
	}
}
