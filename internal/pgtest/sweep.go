package pgtest

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"
)

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
		testPrefix, c.id, templatePrefix, templateName(templatePrefix, ""))
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
