package pgtest

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"
)

// sweep drops the databases of processes that died: those whose owner's lock is
// free. It keeps such a lock, so that no other process drops the same.
func (c *cluster) sweep(ctx context.Context) error {
	return c.dropAll(ctx, c.owner, `
WITH others AS MATERIALIZED (
	SELECT datname, split_part(datname, '_', 3) AS owner
	FROM pg_database
	WHERE starts_with(datname, $1) AND split_part(datname, '_', 3) <> $2
)
SELECT datname
FROM others
WHERE pg_try_advisory_lock(hashtextextended(owner, 0))`, testPrefix, c.id)
}

// sweepTemplates drops templates over a week old, for every change of the
// migrations leaves one. One that is still in use is built again.
func (c *cluster) sweepTemplates(ctx context.Context) error {
	if c.server == nil {
		return nil // looking at a server's files takes rights we may not have there
	}
	return c.dropAll(ctx, c.admin, `
SELECT datname
FROM pg_database
WHERE starts_with(datname, $1)
	AND (pg_stat_file('base/' || oid || '/PG_VERSION', true)).modification < now() - interval '7 days'`, templatePrefix)
}

type querier interface {
	Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error)
}

// dropAll drops the databases that the query names.
func (c *cluster) dropAll(ctx context.Context, conn querier, query string, args ...any) error {
	rows, err := conn.Query(ctx, query, args...)
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
