package pgtest

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"polarmirror/internal/localpg"
)

// kept is the one mutable global of the project. A test process has no other
// place for what its tests share: package testing hands them nothing in common.
var kept = struct {
	cluster *cluster
	err     error // why there is none
}{err: errors.New("this package's TestMain does not call pgtest.Keep")}

// Keep holds the server until the returned function is called, after the last
// test. If there is no Postgres the tests say so.
func Keep() (release func()) {
	ctx, cancel := context.WithTimeout(context.Background(), setupTime)
	defer cancel()
	if kept.cluster, kept.err = openCluster(ctx); kept.err != nil {
		return func() {}
	}
	return func() {
		ctx, cancel := context.WithTimeout(context.Background(), cleanupTime)
		defer cancel()
		// A server that does not stop is the next run's to adopt.
		_ = kept.cluster.close(ctx)
	}
}

// useCluster returns what Keep holds.
func useCluster(t testing.TB) *cluster {
	t.Helper()
	if kept.err != nil {
		t.Fatalf("tests need Postgres: %v", kept.err)
	}
	return kept.cluster
}

// cluster is this process's access to the server of all tests.
type cluster struct {
	server *localpg.Server // nil if the environment names a server
	config *pgxpool.Config // of the maintenance database
	admin  *pgxpool.Pool
	// owner holds the advisory lock that says that the databases named after
	// this process's id are in use.
	owner *pgx.Conn
	id    string
	// strategy makes clones by copying files, as Postgres 14 always does. Newer
	// versions write each page to the WAL instead, which takes three times as long.
	strategy string
}

func openCluster(ctx context.Context) (_ *cluster, err error) {
	c := &cluster{id: randomID()}
	defer func() {
		if err != nil {
			_ = c.close(context.WithoutCancel(ctx))
		}
	}()
	url := cmp.Or(os.Getenv("SYNCD_TEST_DATABASE_URL"), os.Getenv("POSTGRES_TEST_URL"))
	if url == "" {
		if c.server, err = startServer(ctx, os.Getenv("SYNCD_TEST_POSTGRES")); err != nil {
			return nil, err
		}
		url = c.server.URL()
	}
	if c.config, err = pgxpool.ParseConfig(url); err != nil {
		return nil, fmt.Errorf("address of the test server: %w", err)
	}
	c.config.MaxConns = 4
	if c.admin, err = pgxpool.NewWithConfig(ctx, c.config); err != nil {
		return nil, err
	}
	if c.owner, err = pgx.ConnectConfig(ctx, c.config.ConnConfig); err != nil {
		return nil, fmt.Errorf("connect to the test server: %w", err)
	}
	if _, err = c.owner.Exec(ctx, lockName, c.id); err != nil {
		return nil, fmt.Errorf("mark this process's test databases: %w", err)
	}
	var version int
	if err = c.owner.QueryRow(ctx, `SELECT current_setting('server_version_num')::int`).Scan(&version); err != nil {
		return nil, err
	}
	if version >= 15_00_00 {
		c.strategy = " STRATEGY file_copy"
	}
	if err = c.sweep(ctx); err != nil {
		return nil, err
	}
	return c, nil
}

// startServer starts or adopts the server of the Postgres that binDir holds, or
// of the newest one installed if that is "".
func startServer(ctx context.Context, binDir string) (*localpg.Server, error) {
	postgres, err := localpg.Find(ctx, binDir)
	if err != nil && (binDir != "" || !errors.Is(err, localpg.ErrNoPostgres)) {
		return nil, err
	}
	// Without one, localpg fetches one.
	dir := filepath.Join(os.TempDir(), folderName(postgres))
	// The name can be guessed and the folder above is everybody's.
	if err := os.Mkdir(dir, 0o700); err != nil && !errors.Is(err, os.ErrExist) {
		return nil, err
	}
	info, err := os.Lstat(dir)
	if err != nil {
		return nil, err
	}
	if st, ok := info.Sys().(*syscall.Stat_t); !ok || !info.IsDir() || int(st.Uid) != os.Geteuid() {
		return nil, fmt.Errorf("%s is somebody else's: remove it", dir)
	}
	return localpg.Start(ctx, localpg.Options{
		DataDir: dir,
		BinDir:  postgres.Dir,
		Settings: map[string]string{
			"fsync":              "off",
			"full_page_writes":   "off",
			"synchronous_commit": "off",
			"max_connections":    "300",
			"max_wal_size":       "512MB",
			"autovacuum":         "off", // it would look into each database, of which each test has one
		},
	})
}

// folderName names the folder of the server's data, which only the major
// version that wrote it can read, and only if it was built alike.
func folderName(postgres localpg.Binaries) string {
	return fmt.Sprintf("syncd-test-%d-%d-%s", os.Geteuid(), postgres.Major, digest(postgres.Dir)[:8])
}

func (c *cluster) close(ctx context.Context) error {
	if c.owner != nil {
		_ = c.owner.Close(ctx)
	}
	if c.admin != nil {
		c.admin.Close()
	}
	if c.server == nil {
		return nil
	}
	return c.server.Close(ctx)
}

func randomID() string { return strings.ToLower(rand.Text()[:10]) }
