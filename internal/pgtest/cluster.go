package pgtest

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"

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
	// address is that of any of the server's databases; see url.
	address url.URL
	admin   *pgxpool.Pool
	// owner holds the advisory lock that says that the databases named after
	// this process's id are in use.
	owner *pgxpool.Conn
	id    string
	// strategy makes clones by copying files, as Postgres 14 always does. Newer
	// versions write each page to the WAL instead, which takes three times as long.
	strategy string

	spares    chan *Database // emptied ones, each left by a test for the next
	shapeOnce sync.Once
	shape     string // of the schema, as the migrations made it; empty until the first clone

	// template is a database that migrate was applied to; it outlives the run.
	// migrate must close what it opens: a database with connections can't be
	// cloned.
	template string
	migrate  func(ctx context.Context, url string) error
	building sync.Mutex // held by who migrates
}

func openCluster(ctx context.Context) (_ *cluster, err error) {
	c := &cluster{id: randomID(), migrate: migrate, spares: make(chan *Database, 1000)} // more than a process has tests at a time
	defer func() {
		if err != nil {
			_ = c.close(context.WithoutCancel(ctx))
		}
	}()
	address := os.Getenv("SYNCD_TEST_DATABASE_URL")
	if address == "" {
		if c.server, err = startServer(ctx, os.Getenv("SYNCD_TEST_POSTGRES")); err != nil {
			return nil, err
		}
		address = c.server.URL()
	}
	parsed, err := url.Parse(address)
	if err != nil || parsed.Scheme == "" {
		return nil, errors.New("SYNCD_TEST_DATABASE_URL is not a URL, such as postgres://user@host/database")
	}
	c.address = *parsed
	if c.config, err = pgxpool.ParseConfig(address); err != nil {
		return nil, fmt.Errorf("address of the test server: %w", err)
	}
	c.config.MaxConns = 5
	if c.admin, err = pgxpool.NewWithConfig(ctx, c.config); err != nil {
		return nil, err
	}
	if c.owner, err = c.admin.Acquire(ctx); err != nil {
		return nil, fmt.Errorf("connect to the test server: %w", err)
	}
	var version int
	const mark = `SELECT current_setting('server_version_num')::int FROM pg_advisory_lock(hashtextextended($1, 0))`
	if err = c.owner.QueryRow(ctx, mark, c.id).Scan(&version); err != nil {
		return nil, fmt.Errorf("mark this process's test databases: %w", err)
	}
	if version >= 15_00_00 {
		c.strategy = " STRATEGY file_copy"
	}
	if c.template, err = templateName(); err != nil {
		return nil, err
	}
	return c, c.sweep(ctx)
}

// startServer starts or adopts the server of the Postgres that binDir holds, or
// of the newest one installed if that is "".
func startServer(ctx context.Context, binDir string) (*localpg.Server, error) {
	postgres, err := localpg.Find(ctx, binDir)
	if err != nil && (binDir != "" || !errors.Is(err, localpg.ErrNoPostgres)) {
		return nil, err
	}
	// Without one, localpg fetches one.
	cache, err := os.UserCacheDir()
	if err != nil {
		return nil, err
	}
	return localpg.Start(ctx, localpg.Options{
		DataDir: filepath.Join(cache, "syncd-test", folderName(postgres)),
		BinDir:  postgres.Dir,
		Settings: map[string]string{
			"fsync":              "off",
			"full_page_writes":   "off",
			"synchronous_commit": "off",
			"max_connections":    "300",
			"max_wal_size":       "512MB",
			"jit":                "off", // compiling takes longer than our few rows
			"autovacuum":         "off", // it would look into each database, of which each test has one
		},
	})
}

// folderName names the folder of the server's data, which only the major
// version that wrote it can read, and only if it was built alike.
func folderName(postgres localpg.Binaries) string {
	return strconv.Itoa(postgres.Major) + strings.ReplaceAll(postgres.Dir, "/", "-")
}

func (c *cluster) close(ctx context.Context) error {
	for len(c.spares) > 0 {
		_ = c.discard(ctx, <-c.spares) // the next run's sweep drops it otherwise
	}
	if c.owner != nil {
		c.owner.Release()
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
