package pgtest

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
)

const (
	testPrefix     = "pgtest_db_"       // pgtest_db_<process id>_<random>
	templatePrefix = "pgtest_template_" // pgtest_template_<month>_<key>: complete
	buildPrefix    = "pgtest_build_"    // pgtest_build_<month>_<key>: not yet a template

	// https://www.postgresql.org/docs/current/errcodes-appendix.html
	noSuchDatabase = "3D000"
	databaseInUse  = "55006"

	lockName = `SELECT pg_advisory_lock(hashtextextended($1, 0))`

	inUseRetries = 100
	inUsePause   = 50 * time.Millisecond
)

// clone makes a database from the template for key, which it builds if it is
// missing.
func (c *cluster) clone(ctx context.Context, migrate func(context.Context, string) error, key string) (*Database, error) {
	name := testPrefix + c.id + "_" + randomID()
	template := "template0"
	if migrate != nil {
		template = templateName(templatePrefix, key)
	}
	err := c.createFrom(ctx, name, template)
	if migrate != nil && isCode(err, noSuchDatabase) {
		if err := c.buildTemplate(ctx, migrate, key); err != nil {
			return nil, err
		}
		err = c.createFrom(ctx, name, template)
	}
	if err != nil {
		return nil, err
	}
	config := c.config.Copy()
	config.ConnConfig.Database = name
	config.MaxConns = poolSize
	pool, err := pgxpool.NewWithConfig(ctx, config)
	if err != nil {
		return nil, errors.Join(err, c.drop(ctx, name))
	}
	return &Database{Name: name, URL: c.url(name), Pool: pool}, nil
}

// createFrom clones a template. Somebody may be connected to it for a moment,
// autovacuum for one.
func (c *cluster) createFrom(ctx context.Context, name, template string) error {
	err := c.retryInUse(ctx, "CREATE DATABASE "+quote(name)+" TEMPLATE "+quote(template)+c.strategy)
	if err != nil {
		return fmt.Errorf("clone %s: %w", template, err)
	}
	return nil
}

func (c *cluster) retryInUse(ctx context.Context, statement string) error {
	for tried := 0; ; tried++ {
		_, err := c.admin.Exec(ctx, statement)
		if !isCode(err, databaseInUse) || tried == inUseRetries {
			return err
		}
		time.Sleep(inUsePause)
	}
}

// buildTemplate migrates a database under another name and renames it once it is
// complete, so that a template by its name is always whole. The advisory lock
// keeps other processes from building the same one.
func (c *cluster) buildTemplate(ctx context.Context, migrate func(context.Context, string) error, key string) error {
	// A connection of its own: waiting for the lock on pooled ones, tests could
	// take them all, and leave none to the one that builds.
	conn, err := pgx.ConnectConfig(ctx, c.config.ConnConfig)
	if err != nil {
		return err
	}
	defer conn.Close(context.WithoutCancel(ctx)) // unlocks
	build, template := templateName(buildPrefix, key), templateName(templatePrefix, key)
	if _, err := conn.Exec(ctx, lockName, build); err != nil {
		return fmt.Errorf("lock template %s: %w", template, err)
	}
	var exists bool
	if err := conn.QueryRow(ctx, `SELECT EXISTS (SELECT FROM pg_database WHERE datname = $1)`, template).Scan(&exists); err != nil {
		return err
	}
	if exists {
		return nil // built while we waited
	}
	if err := c.drop(ctx, build); err != nil {
		return err
	}
	if err := c.createFrom(ctx, build, "template0"); err != nil {
		return err
	}
	if err := migrate(ctx, c.url(build)); err != nil {
		return fmt.Errorf("migrate the template: %w", err)
	}
	// A connection just closed may linger in the server for a moment.
	if err := c.retryInUse(ctx, "ALTER DATABASE "+quote(build)+" RENAME TO "+quote(template)); err != nil {
		return fmt.Errorf("finish template %s (does migrate close its connections?): %w", template, err)
	}
	return nil
}

// templateName names the month too: what is migrated belongs to it, and sweep
// sees by it which templates are old.
func templateName(prefix, key string) string {
	return prefix + time.Now().UTC().Format("200601") + "_" + key
}

func (c *cluster) drop(ctx context.Context, name string) error {
	if _, err := c.admin.Exec(ctx, "DROP DATABASE IF EXISTS "+quote(name)+" WITH (FORCE)"); err != nil {
		return fmt.Errorf("drop %s: %w", name, err)
	}
	return nil
}

// url is the address of a database of the server.
func (c *cluster) url(database string) string {
	u := c.address
	u.Path = "/" + database
	return u.String()
}

// digest tells different parts apart.
func digest(parts ...string) string {
	h := sha256.New()
	for _, part := range parts {
		fmt.Fprintf(h, "%d:%s", len(part), part)
	}
	return hex.EncodeToString(h.Sum(nil)[:12])
}

func isCode(err error, code string) bool {
	var pgErr *pgconn.PgError
	return errors.As(err, &pgErr) && pgErr.Code == code
}

func quote(name string) string { return pgx.Identifier{name}.Sanitize() }
