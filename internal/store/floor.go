package store

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"polarmirror/internal/polar"
)

// A Floor is from when on the next tick has to look.
type Floor struct {
	At       time.Time      // by Polar's clock: when the last successful run began
	Age      *time.Duration // by the database's clock: since that run began; nil if unknown
	NullRows int            // rows without modified_at, as last found or as the mirror counts them
	OnePage  bool           // the mirror has fewer live rows than fit on one page
}

// LoadFloor returns the organization's floor, or false before the first
// successful run.
func (s *Session) LoadFloor(ctx context.Context) (Floor, bool, error) {
	const load = `
SELECT
    floor_at,
    (SELECT lag FROM polar.sync_status WHERE organization_id = $1),
    null_rows,
    (SELECT count(*)
       FROM (SELECT
               FROM polar.customer_meters
              WHERE organization_id = $1
                AND deleted_at IS NULL
                AND out_of_scope_at IS NULL
              LIMIT $2) live) < $2
  FROM polar.tick_floors
 WHERE organization_id = $1`
	var floor Floor
	var known *int
	err := s.conn.QueryRow(ctx, load, s.organization, polar.MaxPageSize).Scan(&floor.At, &floor.Age, &known, &floor.OnePage)
	if errors.Is(err, pgx.ErrNoRows) {
		return Floor{}, false, nil
	}
	if err != nil {
		return Floor{}, false, fmt.Errorf("load floor: %w", err)
	}
	floor.At = floor.At.UTC()
	if known != nil {
		floor.NullRows = *known
		return floor, true, nil
	}
	const count = `
SELECT count(*)
  FROM polar.customer_meters m
  JOIN polar.meters t ON t.id = m.meter_id
 WHERE m.organization_id = $1
   AND m.modified_at IS NULL
   AND m.deleted_at IS NULL
   AND m.out_of_scope_at IS NULL
   AND t.archived_at IS NULL`
	if err := s.conn.QueryRow(ctx, count, s.organization).Scan(&floor.NullRows); err != nil {
		return Floor{}, false, fmt.Errorf("count rows that never changed: %w", err)
	}
	return floor, true, nil
}

// Floor returns the organization's floor, without looking at its rows; zero
// before the first successful run.
func (s *Store) Floor(ctx context.Context, organization uuid.UUID) (Floor, error) {
	const sql = `
SELECT
    floor_at,
    (SELECT lag FROM polar.sync_status WHERE organization_id = $1)
  FROM polar.tick_floors
 WHERE organization_id = $1`
	var floor Floor
	err := s.pool.QueryRow(ctx, sql, organization).Scan(&floor.At, &floor.Age)
	if errors.Is(err, pgx.ErrNoRows) {
		return Floor{}, nil
	}
	if err != nil {
		return Floor{}, fmt.Errorf("load floor: %w", err)
	}
	return floor, nil
}

// Since returns the moment, by Polar's clock, since when changes may be unseen;
// now is what that clock says. A floor later than that was taken from a clock that
// was ahead, and is unknown: the last successful run began as long ago as the
// database's clock says. If that is unknown too, any change may be unseen, and
// the moment is zero.
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
