package store

import (
	"context"
	"fmt"

	"github.com/jackc/pgerrcode"
	"github.com/jackc/pgx/v5"
)

// excludeSQL notes the excluded fields and, if any is new, removes what is stored
// of all. Texts can't be taken apart here and go as a whole. The empty digest makes
// the next sight of a customer count as a change.
const excludeSQL = `
WITH included AS (
    DELETE FROM polar.excluded_fields
     WHERE field <> ALL($1::text[])
), added AS (
    INSERT INTO polar.excluded_fields (field)
    SELECT unnest($1::text[])
    ON CONFLICT DO NOTHING
    RETURNING field
), customers AS (
    UPDATE polar.customers
       SET digest = '',
           email = CASE WHEN 'email' <> ALL($1) THEN email END,
           name = CASE WHEN 'name' <> ALL($1) THEN name END,
           billing_name = CASE WHEN 'billing_name' <> ALL($1) THEN billing_name END,
           metadata = CASE WHEN 'metadata' <> ALL($1) THEN metadata END,
           raw = raw - $1
     WHERE EXISTS (SELECT FROM added)
       AND raw ?| $1
), rejected AS (
    DELETE FROM polar.rejected_rows
     WHERE EXISTS (SELECT FROM added)
), deliveries AS (
    UPDATE polar.webhook_events
       SET payload = NULL,
           next_attempt_at = NULL,
           status = 'failed',
           error = 'privacy.exclude was switched on before it was applied; the next full run brings what it reported'
     WHERE EXISTS (SELECT FROM added)
       AND payload IS NOT NULL
), errors AS (
    UPDATE polar.sync_runs
       SET error = split_part(error, ', body begins "', 1)
     WHERE EXISTS (SELECT FROM added)
       AND error LIKE '%, body begins "%'
)
SELECT field
  FROM added
 ORDER BY field`

// Exclude makes fields the fields of customers that are never stored. If some of
// them are new, it returns those, after what was stored of them was removed from
// customers, rejected rows, webhooks and errors. Otherwise it writes nothing. It
// changes all or nothing. Other processes that don't exclude the same fields must
// have ended.
func (s *Store) Exclude(ctx context.Context, fields []string) (added []string, err error) {
	if fields == nil {
		fields = []string{} // no row is unequal to all of NULL
	}
	for range 5 {
		added, err = collect(ctx, s.pool, "exclude fields of customers", pgx.RowTo[string], excludeSQL, fields)
		if sqlState(err) != pgerrcode.DeadlockDetected { // with a block of another replica, which locks in its own order
			return added, err
		}
	}
	return nil, fmt.Errorf("%w; stop the other replicas and start again", err)
}
