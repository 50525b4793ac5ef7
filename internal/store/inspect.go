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
	Limits       []ConnectionLimit
}

// A ConnectionLimit is how many connections something leaves to syncd.
type ConnectionLimit struct {
	Left int
	Of   string // what grants them, such as role "syncd"
	Cure string // a statement or setting that grants more
}

// inspectLimits looks at what bounds the number of connections: the role, the
// database, and what the server has free beside the connections of syncd itself,
// by its application_name, which only those of the same role show. Limits of role
// and database do not bind superusers.
func (s *Store) inspectLimits(ctx context.Context) ([]ConnectionLimit, error) {
	const sql = `
WITH ours AS (
    SELECT count(*)::int AS n
      FROM pg_catalog.pg_stat_activity
     WHERE usename = session_user
       AND application_name = current_setting('application_name')
)
SELECT
    CASE WHEN r.rolconnlimit >= 0 AND NOT r.rolsuper THEN
        r.rolconnlimit + o.n - (SELECT count(*)::int FROM pg_catalog.pg_stat_activity WHERE usename = session_user) END,
    CASE WHEN d.datconnlimit >= 0 AND NOT r.rolsuper THEN
        d.datconnlimit + o.n - (SELECT numbackends FROM pg_catalog.pg_stat_database WHERE datid = d.oid) END,
    current_setting('max_connections')::int
        - CASE WHEN r.rolsuper THEN 0 ELSE current_setting('superuser_reserved_connections')::int
            + coalesce(current_setting('reserved_connections', true)::int, 0) END
        + o.n - (SELECT sum(numbackends)::int FROM pg_catalog.pg_stat_database),
    format('ALTER ROLE %I CONNECTION LIMIT -1', session_user),
    format('ALTER DATABASE %I CONNECTION LIMIT -1', current_database())
  FROM ours o
  JOIN pg_catalog.pg_roles r ON r.rolname = session_user
  JOIN pg_catalog.pg_database d ON d.datname = current_database()`
	var role, database *int
	var server int
	var roleCure, databaseCure string
	if err := s.pool.QueryRow(ctx, sql).Scan(&role, &database, &server, &roleCure, &databaseCure); err != nil {
		return nil, fmt.Errorf("look at the limits of connections: %w", err)
	}
	limits := []ConnectionLimit{{server, "the server", "raise the server's max_connections"}}
	if role != nil {
		limits = append(limits, ConnectionLimit{*role, "the role", "let an administrator run " + roleCure})
	}
	if database != nil {
		limits = append(limits, ConnectionLimit{*database, "the database", "let an administrator run " + databaseCure})
	}
	return limits, nil
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
	if in.Limits, err = s.inspectLimits(ctx); err != nil {
		return nil, err
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
	if state := sqlState(err); state == undefinedTable || state == insufficientPrivilege {
		return len(versions), nil
	}
	if err != nil {
		return 0, fmt.Errorf("count migrations: %w", err)
	}
	return pending, nil
}
