package localpg

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
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
// behind, to end with the process. That or a crash leaves a folder, which the next
// fetch removes.
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
	fetching, err := lock(ctx, filepath.Join(cache, "lock"))
	if err != nil {
		return Binaries{}, err
	}
	defer fetching.Unlock()
	final := filepath.Join(cache, "postgres-"+string(version))
	if b, err := probe(ctx, s.account, filepath.Join(final, "bin")); err == nil {
		return b, nil
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
// account running Postgres can enter: it could not enter root's own cache.
func (s *Server) cacheDir() (string, error) {
	dir, mode := "/var/cache/syncd", os.FileMode(0o755)
	switch {
	case s.opts.cacheDir != "":
		dir = s.opts.cacheDir
	case s.account.other == nil:
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
//
// It uses embedded-postgres for that and for nothing else: the server it would
// start has a well-known password and can't run as root. The library has no
// call for that, so it is given a data folder that looks initialized but has no
// configuration: after unpacking, its start ends at once with an error, which is
// ignored if the binaries are there.
func (s *Server) download(ctx context.Context, version embeddedpostgres.PostgresVersion, cache, final string) error {
	work := filepath.Join(cache, "unpacking")
	unpacked, data := filepath.Join(work, "postgres"), filepath.Join(work, "no-data")
	port, err := freePort()
	if err != nil {
		return err
	}
	if err := errors.Join(os.RemoveAll(work), os.MkdirAll(data, 0o700)); err != nil {
		return fmt.Errorf("make a place for fetched binaries: %w", explain(err))
	}
	defer os.RemoveAll(work)
	major, _, _ := strings.Cut(string(version), ".")
	if err := os.WriteFile(filepath.Join(data, "PG_VERSION"), []byte(major+"\n"), 0o600); err != nil {
		return explain(err)
	}
	config := embeddedpostgres.DefaultConfig().
		Version(version).
		Port(uint32(port)).
		CachePath(filepath.Join(work, "download")).
		RuntimePath(filepath.Join(work, "runtime")).
		BinariesPath(unpacked).
		DataPath(data).
		Logger(io.Discard)
	if s.opts.repository != "" {
		config = config.BinaryRepositoryURL(s.opts.repository)
	}
	started := make(chan error, 1)
	go func() { started <- embeddedpostgres.NewDatabase(config).Start() }()
	select {
	case <-ctx.Done():
		return fmt.Errorf("fetch Postgres: %w", ctx.Err())
	case err = <-started:
	}
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
