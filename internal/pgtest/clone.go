package pgtest

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"time"

	"github.com/jackc/pgerrcode"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"polarmirror/internal/secret"
	"polarmirror/internal/store"
	"polarmirror/migrations"
)

const (
	testPrefix     = "pgtest_db_"       // pgtest_db_<process id>_<random>
	templatePrefix = "pgtest_template_" // pgtest_template_<month>_<digest of the migrations>

	inUseRetries = 100
	inUsePause   = 50 * time.Millisecond
)

// clone makes a database from a template, which it builds if it is missing.
func (c *cluster) clone(ctx context.Context, template string) (*Database, error) {
	name := c.newName()
	err := c.create(ctx, name, template)
	if isCode(err, pgerrcode.InvalidCatalogName) {
		if err := c.build(ctx, template); err != nil {
			return nil, err
		}
		err = c.create(ctx, name, template)
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

// build migrates a database of this process and gives it the template's name once
// it is complete, so that a template is always whole. Of several processes that do
// so, one comes first.
func (c *cluster) build(ctx context.Context, template string) error {
	c.building.Lock()
	defer c.building.Unlock()
	var exists bool
	if err := c.admin.QueryRow(ctx, `SELECT EXISTS (SELECT FROM pg_database WHERE datname = $1)`, template).Scan(&exists); err != nil || exists {
		return err // built while we waited
	}
	name := c.newName()
	if err := c.create(ctx, name, "template0"); err != nil {
		return err
	}
	err := c.migrate(ctx, c.url(name))
	if err == nil {
		err = c.exec(ctx, "ALTER DATABASE "+quote(name)+" RENAME TO "+quote(template))
	}
	if err == nil {
		return nil
	}
	if isCode(err, pgerrcode.DuplicateDatabase) || isCode(err, pgerrcode.UniqueViolation) { // the latter if both come at once
		err = nil
	}
	return errors.Join(err, c.drop(ctx, name))
}

func migrate(ctx context.Context, url string) error {
	st, err := store.Open(ctx, store.Options{URL: secret.New(url), MaxConnections: 2})
	if err != nil {
		return err
	}
	defer st.Close()
	_, err = st.Migrate(ctx)
	return err
}

func (c *cluster) newName() string { return testPrefix + c.id + "_" + randomID() }

// create clones a template.
func (c *cluster) create(ctx context.Context, name, template string) error {
	return c.exec(ctx, "CREATE DATABASE "+quote(name)+" TEMPLATE "+quote(template)+c.strategy)
}

// exec runs a statement on a database that nobody may be connected to. Somebody may
// be for a moment: who has just closed a connection, or autovacuum.
func (c *cluster) exec(ctx context.Context, statement string) error {
	for tried := 0; ; tried++ {
		_, err := c.admin.Exec(ctx, statement)
		switch {
		case err == nil:
			return nil
		case !isCode(err, pgerrcode.ObjectInUse) || tried == inUseRetries:
			return fmt.Errorf("%s: %w", statement, err)
		}
		time.Sleep(inUsePause)
	}
}

func (c *cluster) drop(ctx context.Context, name string) error {
	if _, err := c.admin.Exec(ctx, "DROP DATABASE IF EXISTS "+quote(name)+" WITH (FORCE)"); err != nil {
		return fmt.Errorf("drop %s: %w", name, err)
	}
	return nil
}

// sweep drops the databases of processes that died, which are those whose
// owner's lock is free, and the templates of earlier months. It keeps such a
// lock, so that no other process drops the same. A template that is still
// wanted is built again.
func (c *cluster) sweep(ctx context.Context) error {
	rows, err := c.owner.Query(ctx, `
WITH others AS MATERIALIZED (
	SELECT datname, split_part(datname, '_', 3) AS owner
	FROM pg_database
	WHERE starts_with(datname, $1) AND split_part(datname, '_', 3) <> $2
)
SELECT datname
FROM others
WHERE pg_try_advisory_lock(hashtextextended(owner, 0))
UNION ALL
SELECT datname
FROM pg_database
WHERE starts_with(datname, $3) AND NOT starts_with(datname, $4)`,
		testPrefix, c.id, templatePrefix, templatePrefix+month())
	if err != nil {
		return fmt.Errorf("look for old test databases: %w", err)
	}
	names, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return fmt.Errorf("look for old test databases: %w", err)
	}
	for _, name := range names {
		if err := c.drop(ctx, name); err != nil {
			return err
		}
	}
	return nil
}

// templateName changes when a migration does. It names the month too: what is
// migrated belongs to it, and sweep sees by it which templates are old.
func templateName() (string, error) {
	names, err := fs.Glob(migrations.FS, "*")
	digest := sha256.New()
	for _, name := range names {
		text, readErr := fs.ReadFile(migrations.FS, name)
		err = errors.Join(err, readErr)
		fmt.Fprintf(digest, "%s %d %s", name, len(text), text)
	}
	return fmt.Sprintf("%s%s_%.12x", templatePrefix, month(), digest.Sum(nil)), err
}

func month() string { return time.Now().UTC().Format("200601") }

// url is the address of a database of the server.
func (c *cluster) url(database string) string {
	u := c.address
	u.Path = "/" + database
	return u.String()
}

func isCode(err error, code string) bool {
	pgErr, ok := errors.AsType[*pgconn.PgError](err)
	return ok && pgErr.Code == code
}

func quote(name string) string { return pgx.Identifier{name}.Sanitize() }
