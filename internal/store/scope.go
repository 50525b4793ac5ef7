package store

import (
	"context"

	"github.com/google/uuid"
)

// A Filter restricts the mirror to some customer meters; empty lists don't. Values of
// one list are alternatives, the lists apply together.
type Filter struct {
	CustomerIDs         []uuid.UUID
	ExternalCustomerIDs []string
	MeterIDs            []uuid.UUID
}

// Empty reports whether f lets everything in.
func (f Filter) Empty() bool {
	return len(f.CustomerIDs)+len(f.ExternalCustomerIDs)+len(f.MeterIDs) == 0
}

// Scope marks the organization's rows that the filter no longer matches as out of
// scope: they are no longer kept current, and their absence means nothing, so
// they are no suspects either. Rows that match again become current when they are
// next seen.
func (s *Session) Scope(ctx context.Context, filter Filter) error {
	const sql = `
WITH marked AS (
    UPDATE polar.customer_meters m
       SET out_of_scope_at = now()
      FROM polar.customers c
     WHERE c.id = m.customer_id
       AND m.organization_id = $1
       AND m.out_of_scope_at IS NULL
       AND NOT (
           (coalesce(cardinality($2::uuid[]), 0) = 0 OR m.customer_id = ANY($2::uuid[]))
           AND (coalesce(cardinality($3::text[]), 0) = 0 OR coalesce(c.external_id = ANY($3::text[]), false))
           AND (coalesce(cardinality($4::uuid[]), 0) = 0 OR m.meter_id = ANY($4::uuid[]))
       )
    RETURNING m.id
)
DELETE FROM polar.walk_suspects w
 USING marked
 WHERE w.organization_id = $1
   AND w.customer_meter_id = marked.id`
	if filter.Empty() {
		return nil
	}
	return exec(ctx, s.conn, "mark rows out of scope", sql, s.organization, ids(filter.CustomerIDs), filter.ExternalCustomerIDs, ids(filter.MeterIDs))
}
