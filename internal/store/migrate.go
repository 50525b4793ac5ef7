package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgerrcode"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/pressly/goose/v3"
	"github.com/pressly/goose/v3/database"
	"github.com/pressly/goose/v3/lock"

	"polarmirror/migrations"
)

// A Migration is one step of the schema and whether it was applied to this database.
type Migration struct {
	Version   int64
	Name      string // file name
	Applied   bool
	AppliedAt time.Time // zero unless applied
}

// Migrate brings the schema up to this binary's newest migration and makes the
// history's partitions. Replicas may call it at once: goose's session lock lets
// one of them work. An error is a [*SchemaError] unless the connection broke.
func (s *Store) Migrate(ctx context.Context) (applied int, err error) {
	if err := s.createSchema(ctx); err != nil {
		return 0, err
	}
	if err := s.checkCompatible(ctx); err != nil {
		return 0, err
	}
	applied, err = s.applyMigrations(ctx)
	if err != nil && ctx.Err() != nil { // goose's error may hide that
		return applied, ctx.Err()
	}
	if err != nil {
		var pgErr *pgconn.PgError
		if errors.As(err, &pgErr) && pgErr.Detail != "" { // such as which view of somebody's is in the way
			err = fmt.Errorf("%w: %s", err, oneLine(pgErr.Detail))
		}
		return applied, &SchemaError{Problem: fmt.Sprintf("migration stopped; what it did not finish was rolled back, so mend the cause and start again: %v", cured(err))}
	}
	if err := s.Maintain(ctx); !errors.Is(err, errStillRead) {
		return applied, err
	}
	return applied, nil
}

func (s *Store) applyMigrations(ctx context.Context) (applied int, err error) {
	versions, err := database.NewStore(database.DialectPostgres, Schema+".goose_db_version")
	if err != nil {
		return 0, err
	}
	locker, err := lock.NewPostgresSessionLocker()
	if err != nil {
		return 0, err
	}
	db := stdlib.OpenDBFromPool(s.pool.Pool)
	defer db.Close()
	provider, err := goose.NewProvider("", db, migrations.FS, goose.WithStore(versions), goose.WithSessionLocker(boundedLocker{locker}))
	if err != nil {
		return 0, err
	}
	results, err := provider.Up(ctx)
	return len(results), err
}

// A boundedLocker also bounds how long the migrations, which goose runs on the
// connection that it locks, wait for a lock: others would queue up behind them.
type boundedLocker struct{ lock.SessionLocker }

func (l boundedLocker) SessionLock(ctx context.Context, conn *sql.Conn) error {
	if _, err := conn.ExecContext(ctx, `SET lock_timeout = '5s'`); err != nil {
		return err
	}
	return l.SessionLocker.SessionLock(ctx, conn)
}

func (l boundedLocker) SessionUnlock(ctx context.Context, conn *sql.Conn) error {
	_, err := conn.ExecContext(ctx, `SET lock_timeout = 0`)
	return errors.Join(err, l.SessionLocker.SessionUnlock(ctx, conn))
}

// Migrations lists every migration this binary knows, oldest first. It reads goose's
// table itself, since goose would make the table if it is missing.
func (s *Store) Migrations(ctx context.Context) ([]Migration, error) {
	known := embeddedMigrations()
	const sql = `
SELECT
    m.version,
    m.name,
    g.version_id IS NOT NULL,
    g.tstamp AT TIME ZONE 'UTC'
  FROM unnest($1::bigint[], $2::text[]) AS m (version, name)
  LEFT JOIN polar.goose_db_version g ON g.version_id = m.version AND g.is_applied
 ORDER BY m.version`
	list, err := collect(ctx, s.pool, "list migrations", pgx.RowToStructByPos[Migration], sql, pgx.QueryExecModeExec,
		column(known, func(m Migration) int64 { return m.Version }), column(known, func(m Migration) string { return m.Name }))
	switch sqlState(err) {
	case pgerrcode.UndefinedTable, pgerrcode.InvalidSchemaName:
		return known, nil
	}
	return list, err
}

// pending counts the migrations that are not applied.
func (s *Store) pending(ctx context.Context) (pending int, err error) {
	list, err := s.Migrations(ctx)
	for _, m := range list {
		if !m.Applied {
			pending++
		}
	}
	return pending, err
}

// embeddedMigrations are this binary's migrations, whose numbers may have gaps.
func embeddedMigrations() (list []Migration) {
	entries, err := migrations.FS.ReadDir(".")
	for i := 0; err == nil && i < len(entries); i++ {
		m := Migration{Name: entries[i].Name()}
		m.Version, err = goose.NumericComponent(m.Name)
		list = append(list, m)
	}
	if err != nil {
		panic(err) // what is embedded is known when syncd is built
	}
	return list
}

// createSchema creates the schema only where it is missing, so that an
// administrator can create it for a role that may not. Two replicas may both find
// it missing; the error of the slower one proves that it exists.
func (s *Store) createSchema(ctx context.Context) error {
	const exists = `SELECT EXISTS (SELECT FROM pg_catalog.pg_namespace WHERE nspname = 'polar')`
	if there, err := value[bool](ctx, s.pool, "find schema", exists); err != nil || there {
		return err
	}
	const sql = `CREATE SCHEMA IF NOT EXISTS polar`
	err := exec(ctx, s.pool, "create schema", sql)
	switch sqlState(err) {
	case pgerrcode.UniqueViolation: // another replica was first
		return nil
	case pgerrcode.InsufficientPrivilege:
		role, err := value[string](ctx, s.pool, "find role", `SELECT quote_ident(current_user)`)
		if err != nil {
			return err
		}
		return &SchemaError{Problem: fmt.Sprintf("role %[1]s may not create schema polar: let an administrator run CREATE SCHEMA polar AUTHORIZATION %[1]s", role)}
	}
	return err
}

// checkCompatible refuses a schema that is too new for this binary, or from
// before the first release: polar.cursors had another name then.
func (s *Store) checkCompatible(ctx context.Context) error {
	const former = `SELECT to_regclass('polar.walk_cursors') IS NOT NULL`
	const sql = `SELECT oldest_migration FROM polar.schema_compatibility`
	obsolete, err := value[bool](ctx, s.pool, "inspect schema", former)
	var oldest int64
	if err == nil && !obsolete {
		oldest, err = value[int64](ctx, s.pool, "read schema compatibility", sql)
	}
	known := embeddedMigrations()
	newest := known[len(known)-1].Version
	switch state := sqlState(err); {
	case state == pgerrcode.UndefinedTable: // an empty schema, or one that is being migrated
		return nil
	case state == pgerrcode.InsufficientPrivilege:
		return notOwner
	case err != nil:
		return err
	case obsolete:
		return &SchemaError{
			Problem:  "it was made by a syncd from before the first release; run DROP SCHEMA polar CASCADE and start again: the history is lost, the rest is read from Polar again",
			Obsolete: true,
		}
	case newest < oldest:
		return &SchemaError{Problem: fmt.Sprintf("it needs a syncd that knows migration %d and this one ends at %d; install a newer syncd", oldest, newest)}
	}
	return nil
}

// Drop drops the schema with all its contents.
func (s *Store) Drop(ctx context.Context) error {
	return exec(ctx, s.pool, "drop schema", `DROP SCHEMA polar CASCADE`)
}
