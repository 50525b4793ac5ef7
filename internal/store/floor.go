package store

import (
	"context"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"polarmirror/internal/polar"
)

// A Floor is the time from which the next tick has to look for changes.
type Floor struct {
	At       time.Time      // by Polar's clock: when the last successful run began
	Age      *time.Duration // by the database's clock: since that run began; nil if unknown
	NullRows int            // rows without modified_at, as the last tick found or as the mirror counts them
	OnePage  bool           // the mirror has fewer live rows than fit on one page
}

const floorSQL = `
SELECT
    f.floor_at,
    (SELECT lag FROM polar.sync_status WHERE organization_id = $1),
    coalesce(f.null_rows, (
        SELECT count(*)
          FROM polar.customer_meters m
          JOIN polar.meters t ON t.id = m.meter_id
         WHERE m.organization_id = $1
           AND m.modified_at IS NULL
           AND m.deleted_at IS NULL
           AND m.out_of_scope_at IS NULL
           AND t.archived_at IS NULL)),
    (SELECT count(*)
       FROM (SELECT
               FROM polar.customer_meters
              WHERE organization_id = $1
                AND deleted_at IS NULL
                AND out_of_scope_at IS NULL
              LIMIT $2) live) < $2
  FROM polar.tick_floors f
 WHERE f.organization_id = $1`

// LoadFloor is [Store.Floor] on the session's connection.
func (s *Session) LoadFloor(ctx context.Context) (Floor, error) {
	return loadFloor(ctx, s.conn, s.organization)
}

// Floor returns the organization's floor; zero before the first successful run.
func (s *Store) Floor(ctx context.Context, organization uuid.UUID) (Floor, error) {
	return loadFloor(ctx, s.pool, organization)
}

func loadFloor(ctx context.Context, db querier, organization uuid.UUID) (Floor, error) {
	list, err := collect(ctx, db, "load floor", pgx.RowToStructByPos[Floor], floorSQL, organization, polar.MaxPageSize)
	if err != nil || len(list) == 0 {
		return Floor{}, err
	}
	return list[0], nil
}

// Since returns the time, by Polar's clock, from which on changes may be unseen;
// now is what that clock says. A floor later than now was given by a clock that
// was ahead, and is unknown: the last successful run began as long ago as the
// database's clock says. If that is unknown too, any change may be unseen, and
// Since is the zero time.
func (f Floor) Since(now time.Time) time.Time {
	switch {
	case now.IsZero() || !f.At.After(now):
		return f.At
	case f.Age == nil:
		return time.Time{}
	default:
		return now.Add(-*f.Age)
	}
}
