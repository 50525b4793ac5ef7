package store

import (
	"context"

	"github.com/jackc/pgx/v5"
)

// The versions of Postgres that syncd supports.
const (
	OldestPostgres = 14
	NewestPostgres = 18
)

// An Inspection is what a database is like, before syncd changes anything in it.
type Inspection struct {
	Version      string // such as 15.18
	Major        int
	Role         string
	ReadOnly     bool // a standby, or set to accept no writes
	SchemaExists bool
	MayCreate    bool              // the role may create schema polar
	MayMigrate   bool              // the role may create objects in schema polar and owns the existing ones
	Pending      int               `db:"-"` // migrations not applied yet
	Limits       []ConnectionLimit `db:"-"`
}

// A ConnectionLimit is how many connections something leaves to syncd.
type ConnectionLimit struct {
	Left int
	Of   string // what grants them, such as the role
	Cure string // what raises the limit
}

// limitsSQL finds what limits the number of connections: the server, the role and
// the database. Connections that syncd has already are free to it; they are those
// with its application_name and its role, as it does not see that name of others'.
// Limits of roles and databases do not apply to superusers.
const limitsSQL = `
WITH us AS (
    SELECT
        r.rolsuper,
        r.rolconnlimit,
        d.datconnlimit,
        d.oid AS database,
        (SELECT count(*)::int
           FROM pg_catalog.pg_stat_activity
          WHERE usename = session_user
            AND application_name = current_setting('application_name')) AS n
      FROM pg_catalog.pg_roles r
      JOIN pg_catalog.pg_database d ON d.datname = current_database()
     WHERE r.rolname = session_user
)
SELECT
    l.most + u.n - l.used,
    l.of,
    l.cure
  FROM us u
 CROSS JOIN LATERAL (VALUES
    (
        current_setting('max_connections')::int - CASE
            WHEN u.rolsuper THEN 0
            ELSE current_setting('superuser_reserved_connections')::int + coalesce(current_setting('reserved_connections', true)::int, 0)
        END,
        (SELECT sum(numbackends)::int FROM pg_catalog.pg_stat_database),
        'the server',
        'raise the server''s max_connections'
    ),
    (
        CASE WHEN NOT u.rolsuper THEN u.rolconnlimit END,
        (SELECT count(*)::int FROM pg_catalog.pg_stat_activity WHERE usename = session_user),
        'the role',
        format('let an administrator run ALTER ROLE %I CONNECTION LIMIT -1', session_user)
    ),
    (
        CASE WHEN NOT u.rolsuper THEN u.datconnlimit END,
        (SELECT numbackends FROM pg_catalog.pg_stat_database WHERE datid = u.database),
        'the database',
        format('let an administrator run ALTER DATABASE %I CONNECTION LIMIT -1', current_database())
    )
  ) AS l (most, used, of, cure)
 WHERE l.most >= 0`

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
	list, err := collect(ctx, s.pool, "inspect database", pgx.RowToAddrOfStructByPos[Inspection], sql, pgx.QueryExecModeExec)
	if err != nil {
		return nil, err
	}
	in := list[0]
	if in.SchemaExists && in.MayMigrate {
		if err := s.checkCompatible(ctx); err != nil {
			return nil, err
		}
	}
	if in.Limits, err = collect(ctx, s.pool, "inspect limits of connections", pgx.RowToStructByPos[ConnectionLimit], limitsSQL); err != nil {
		return nil, err
	}
	in.Pending, err = s.pending(ctx)
	return in, err
}
