package store

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
)

// The versions of Postgres that syncd is made for.
const (
	OldestPostgres = 14
	NewestPostgres = 18
)

// An Inspection is what a database is like, before anything is asked of it.
type Inspection struct {
	Version      string // such as 15.18
	Major        int
	Role         string
	ReadOnly     bool // a standby, or set to take no writes
	SchemaExists bool
	MayCreate    bool // the role may create schema polar
	MayMigrate   bool // the role may make objects in schema polar and owns those that are there
	Pending      int  // migrations not applied yet
	KeepsSession bool // settings and locks of a connection outlive its transactions
}

// Inspect looks at the database without changing it. An error is a
// [*SchemaError] if the schema is too new for this binary.
func (s *Store) Inspect(ctx context.Context) (*Inspection, error) {
	const sql = `
SELECT
    current_setting('server_version'),
    current_setting('server_version_num')::int / 10000,
    current_user::text,
    pg_is_in_recovery() OR current_setting('transaction_read_only')::boolean,
    n.oid IS NOT NULL,
    has_database_privilege(current_database(), 'CREATE'),
    n.oid IS NOT NULL
        AND has_schema_privilege(n.oid, 'CREATE')
        AND NOT EXISTS (
            SELECT
              FROM pg_catalog.pg_class c
             WHERE c.relnamespace = n.oid
               AND c.relkind IN ('r', 'p', 'v')
               AND NOT pg_has_role(c.relowner, 'USAGE'))
  FROM (VALUES (1)) AS one (row)
  LEFT JOIN pg_catalog.pg_namespace n ON n.nspname = 'polar'`
	in := &Inspection{}
	err := s.pool.QueryRow(ctx, sql, pgx.QueryExecModeExec).Scan(&in.Version, &in.Major, &in.Role, &in.ReadOnly,
		&in.SchemaExists, &in.MayCreate, &in.MayMigrate)
	if err != nil {
		return nil, fmt.Errorf("inspect database: %w", err)
	}
	if in.KeepsSession, err = keepsSession(ctx, s.pool); err != nil {
		return nil, fmt.Errorf("inspect connection: %w", err)
	}
	if in.SchemaExists && in.MayMigrate {
		if err := s.checkCompatible(ctx); err != nil {
			return nil, err
		}
	}
	in.Pending, err = s.pending(ctx, in)
	return in, err
}

// pending counts the migrations to come. It reads goose's table itself, since
// goose would make the table if it is missing.
func (s *Store) pending(ctx context.Context, in *Inspection) (int, error) {
	newest, err := newestMigration()
	if err != nil || !in.SchemaExists {
		return int(newest), err
	}
	const sql = `SELECT count(*) FROM polar.goose_db_version WHERE version_id > 0 AND is_applied`
	var applied int64
	err = s.pool.QueryRow(ctx, sql, pgx.QueryExecModeExec).Scan(&applied)
	switch sqlState(err) {
	case "": // and perhaps no error at all
	case "42P01", "42501": // undefined_table, insufficient_privilege
		return int(newest), nil
	}
	if err != nil {
		return 0, fmt.Errorf("count migrations: %w", err)
	}
	return int(max(newest-applied, 0)), nil
}

// sessionProbe bounds the look at what keeps a session: a pooling proxy with a
// single server connection lets the second of our connections wait for ever.
const sessionProbe = 5 * time.Second

// keepsSession finds out whether a connection is one server process as long as
// it lasts, as the organizations' locks need it. A proxy that pools by
// transaction hands the process on when a transaction ends: most likely to the
// next connection that asks, which is then held open while the first asks again.
func keepsSession(ctx context.Context, pool *pgxpool.Pool) (bool, error) {
	first, err := pool.Acquire(ctx)
	if err != nil {
		return false, err
	}
	defer first.Release()
	mark := uuid.NewString()
	const leave = `SELECT pg_backend_pid(), set_config('syncd.probe', $1, false)`
	var pid, otherPID, pidAgain int
	if err := first.QueryRow(ctx, leave, pgx.QueryExecModeExec, mark).Scan(&pid, nil); err != nil {
		return false, err
	}

	probe, cancel := context.WithTimeout(ctx, sessionProbe)
	defer cancel()
	second, err := pool.Acquire(probe)
	if err != nil {
		return waited(ctx, err)
	}
	defer second.Release()
	tx, err := second.Begin(probe)
	if err != nil {
		return waited(ctx, err)
	}
	defer tx.Rollback(context.WithoutCancel(ctx))
	if err := tx.QueryRow(probe, `SELECT pg_backend_pid()`, pgx.QueryExecModeExec).Scan(&otherPID); err != nil {
		return waited(ctx, err)
	}
	const find = `SELECT pg_backend_pid(), coalesce(current_setting('syncd.probe', true), '')`
	var found string
	if err := first.QueryRow(probe, find, pgx.QueryExecModeExec).Scan(&pidAgain, &found); err != nil {
		return waited(ctx, err)
	}
	return pid != otherPID && pid == pidAgain && found == mark, nil
}

// waited takes a probe that ended for want of a server process as an answer.
func waited(ctx context.Context, err error) (bool, error) {
	if errors.Is(err, context.DeadlineExceeded) && ctx.Err() == nil {
		return false, nil
	}
	return false, err
}
