package pgtest

import (
	"context"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"
)

// sweep drops the databases of processes that died: those whose owner's lock is
// free.
func (c *cluster) sweep(ctx context.Context) error {
	const leftovers = `
SELECT datname
FROM pg_database
WHERE starts_with(datname, $1)
ORDER BY datname`
	rows, err := c.owner.Query(ctx, leftovers, testPrefix)
	if err != nil {
		return fmt.Errorf("look for old test databases: %w", err)
	}
	names, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return fmt.Errorf("look for old test databases: %w", err)
	}
	for _, name := range names {
		owner, _, _ := strings.Cut(strings.TrimPrefix(name, testPrefix), "_")
		if owner == c.id {
			continue
		}
		var dead bool
		if err := c.owner.QueryRow(ctx, `SELECT pg_try_advisory_lock($1)`, lockKey(owner)).Scan(&dead); err != nil {
			return fmt.Errorf("look for the owner of %s: %w", name, err)
		}
		if !dead {
			continue
		}
		dropErr := c.drop(ctx, name)
		if _, err := c.owner.Exec(ctx, `SELECT pg_advisory_unlock($1)`, lockKey(owner)); err != nil {
			return fmt.Errorf("look for the owner of %s: %w", name, err)
		}
		if dropErr != nil {
			return dropErr
		}
	}
	return nil
}

// sweepTemplates drops templates over a week old, for every change of the
// migrations leaves one. One that is still in use is built again.
func (c *cluster) sweepTemplates(ctx context.Context) error {
	if c.server == nil {
		return nil // looking at a server's files takes rights we may not have there
	}
	const old = `
SELECT datname
FROM pg_database
WHERE starts_with(datname, $1)
	AND (pg_stat_file('base/' || oid || '/PG_VERSION', true)).modification < now() - interval '7 days'`
	rows, err := c.admin.Query(ctx, old, templatePrefix)
	if err != nil {
		return fmt.Errorf("look for old templates: %w", err)
	}
	names, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return fmt.Errorf("look for old templates: %w", err)
	}
	for _, name := range names {
		if err := c.drop(ctx, name); err != nil {
			return err
		}
	}
	return nil
}
