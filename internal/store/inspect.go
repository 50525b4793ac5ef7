package store

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"
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
	versions, err := embeddedMigrations()
	if err != nil || !in.SchemaExists {
		return len(versions), err
	}
	const sql = `SELECT count(*) FROM unnest($1::bigint[]) AS m (version) WHERE version NOT IN (SELECT version_id FROM polar.goose_db_version WHERE is_applied)`
	var pending int
	err = s.pool.QueryRow(ctx, sql, pgx.QueryExecModeExec, versions).Scan(&pending)
	switch sqlState(err) {
	case "": // and perhaps no error at all
	case "42P01", "42501": // undefined_table, insufficient_privilege
		return len(versions), nil
	}
	if err != nil {
		return 0, fmt.Errorf("count migrations: %w", err)
	}
	return pending, nil
}
