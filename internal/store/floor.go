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
	At       time.Time // by Polar's clock: when the last successful run began
	NullRows int       // rows without modified_at, as last found or as the mirror counts them
	Few      bool      // the mirror has fewer live rows than fit on one page
}

// LoadFloor returns the organization's floor, or false before the first
// successful run.
func (s *Session) LoadFloor(ctx context.Context) (Floor, bool, error) {
	const load = `
SELECT
    floor_at,
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
	err := s.conn.QueryRow(ctx, load, s.organization, polar.MaxPageSize).Scan(&floor.At, &known, &floor.Few)
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

// FloorAt returns when, by Polar's clock, the organization's last successful
// run began; zero before the first.
func (s *Store) FloorAt(ctx context.Context, organization uuid.UUID) (time.Time, error) {
	const sql = `
SELECT floor_at
  FROM polar.tick_floors
 WHERE organization_id = $1`
	var at time.Time
	err := s.pool.QueryRow(ctx, sql, organization).Scan(&at)
	if errors.Is(err, pgx.ErrNoRows) {
		return time.Time{}, nil
	}
	if err != nil {
		return time.Time{}, fmt.Errorf("load floor: %w", err)
	}
	return at, nil
}
