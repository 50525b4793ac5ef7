package store

import (
	"context"
	"fmt"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
)

// columnsOf are the labels and the ids, null for those to be found by label.
func columnsOf(organizations []Organization) (names []string, ids []uuid.NullUUID) {
	names, ids = make([]string, len(organizations)), make([]uuid.NullUUID, len(organizations))
	for i, o := range organizations {
		names[i], ids[i] = o.Name, uuid.NullUUID{UUID: o.ID, Valid: o.ID != uuid.Nil}
	}
	return names, ids
}

// A Size is how many rows of one organization there are of each sort.
type Size struct {
	Organization string // label, as asked for
	LiveRows     int64  // customer meters that Polar has and the filter lets in
	Suspects     int64  // of them, those that the walk under way has not found
	RejectedRows int64  // rows from Polar that could not be mirrored, of the last 30 days
}

// Sizes counts the rows of each of the organizations, in their order. It reads
// the whole table of customer meters once, whatever the number of
// organizations: ask seldom.
func (s *Store) Sizes(ctx context.Context, organizations []Organization) ([]Size, error) {
	const sql = `
SELECT DISTINCT ON (asked.place)
    asked.name,
    coalesce(live.n, 0),
    coalesce(suspects.n, 0),
    coalesce(rejected.n, 0)
  FROM unnest($1::text[], $2::uuid[]) WITH ORDINALITY AS asked (name, id, place)
  LEFT JOIN LATERAL (
    SELECT by_id.id
      FROM polar.organizations by_id
     WHERE by_id.id = asked.id
    UNION ALL
    SELECT by_name.id
      FROM polar.organizations by_name
     WHERE asked.id IS NULL
       AND by_name.name = asked.name
  ) o ON true
  LEFT JOIN (
    SELECT
        m.organization_id,
        count(*) AS n
      FROM polar.customer_meters m
     WHERE m.deleted_at IS NULL
       AND m.out_of_scope_at IS NULL
     GROUP BY m.organization_id
  ) live ON live.organization_id = o.id
  LEFT JOIN (
    SELECT
        w.organization_id,
        count(*) AS n
      FROM polar.walk_suspects w
     GROUP BY w.organization_id
  ) suspects ON suspects.organization_id = o.id
  LEFT JOIN (
    SELECT
        j.organization_id,
        count(*) AS n
      FROM polar.rejected_rows j
     GROUP BY j.organization_id
  ) rejected ON rejected.organization_id = o.id
 ORDER BY asked.place, live.n DESC NULLS LAST`
	names, ids := columnsOf(organizations)
	rows, err := s.pool.Query(ctx, sql, names, ids)
	if err != nil {
		return nil, fmt.Errorf("count rows: %w", err)
	}
	list, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (Size, error) {
		var z Size
		err := row.Scan(&z.Organization, &z.LiveRows, &z.Suspects, &z.RejectedRows)
		return z, err
	})
	if err != nil {
		return nil, fmt.Errorf("count rows: %w", err)
	}
	return list, nil
}
