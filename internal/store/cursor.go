package store

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"polarmirror/internal/polar"
)

// cursorLifetime is how long an unfinished walk or backfill can be resumed.
const cursorLifetime = 24 * time.Hour

// A Cursor is where an unfinished walk resumes: every customer meter from Low
// upward that existed throughout the walk is mirrored.
type Cursor struct {
	BeganAt      time.Time // by the database's clock
	PolarBeganAt time.Time // by Polar's clock; zero if unknown
	Low          polar.Key
	Offset       int   // where in the list Low was last seen, counted from 0
	TotalCount   int   // as Polar counted when the walk began
	RowsRejected int64 // so far
	Fingerprint  string
}

// LoadCursor returns the cursor of the organization's unfinished walk, or nil if
// there is none that has this fingerprint and is known to be young enough. Any
// other cursor is dropped together with its suspects, so that the next walk
// starts from nothing.
func (s *Session) LoadCursor(ctx context.Context, fingerprint string) (*Cursor, error) {
	const drop = `
DELETE FROM polar.walk_cursors
 WHERE organization_id = $1
   AND (fingerprint <> $2 OR saved_at < now() - $3::interval OR saved_at > now())`
	const dropSuspects = `
DELETE FROM polar.walk_suspects
 WHERE organization_id = $1
   AND NOT EXISTS (SELECT FROM polar.walk_cursors c WHERE c.organization_id = $1)`
	const load = `
SELECT
    began_at,
    polar_began_at,
    low_created_at,
    low_customer_id,
    low_meter_id,
    low_offset,
    total_count,
    rows_rejected
  FROM polar.walk_cursors
 WHERE organization_id = $1`
	var cursor *Cursor
	batch := &pgx.Batch{}
	batch.Queue(drop, s.organization, fingerprint, cursorLifetime)
	batch.Queue(dropSuspects, s.organization)
	batch.Queue(load, s.organization).Query(func(rows pgx.Rows) error {
		c := &Cursor{Fingerprint: fingerprint}
		_, err := pgx.ForEachRow(rows, []any{
			&c.BeganAt, &c.PolarBeganAt, &c.Low.CreatedAt, &c.Low.CustomerID, &c.Low.MeterID,
			&c.Offset, &c.TotalCount, &c.RowsRejected,
		}, func() error {
			cursor = c
			return nil
		})
		return err
	})
	if err := s.conn.SendBatch(ctx, batch).Close(); err != nil {
		return nil, fmt.Errorf("load cursor: %w", err)
	}
	return cursor, nil
}

const saveCursorSQL = `
INSERT INTO polar.walk_cursors (
    organization_id,
    began_at,
    polar_began_at,
    saved_at,
    low_created_at,
    low_customer_id,
    low_meter_id,
    low_offset,
    total_count,
    rows_rejected,
    fingerprint
)
VALUES ($1, $2, $3, now(), $4, $5, $6, $7, $8, $9, $10)
ON CONFLICT (organization_id) DO UPDATE SET
    began_at = excluded.began_at,
    polar_began_at = excluded.polar_began_at,
    saved_at = excluded.saved_at,
    low_created_at = excluded.low_created_at,
    low_customer_id = excluded.low_customer_id,
    low_meter_id = excluded.low_meter_id,
    low_offset = excluded.low_offset,
    total_count = excluded.total_count,
    rows_rejected = excluded.rows_rejected,
    fingerprint = excluded.fingerprint`

func (w *Writer) queueCursor(batch *pgx.Batch, c *Cursor) {
	if c == nil {
		return
	}
	batch.Queue(saveCursorSQL, w.organization, c.BeganAt, timestamp(c.PolarBeganAt), c.Low.CreatedAt,
		c.Low.CustomerID, c.Low.MeterID, c.Offset, c.TotalCount, c.RowsRejected, c.Fingerprint)
}
