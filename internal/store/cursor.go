package store

import (
	"cmp"
	"context"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"

	"polarmirror/internal/polar"
)

// cursorLifetime is how long an unfinished walk or backfill can be resumed.
const cursorLifetime = 24 * time.Hour

// A Cursor is where an unfinished full run resumes. A walk: every customer meter
// from Low upward that existed throughout the walk is mirrored. A sweep: the same
// of the rows of MeterID; after that, all rows of the customers up to CustomerID.
type Cursor struct {
	BeganAt      time.Time // by the database's clock
	PolarBeganAt time.Time // by Polar's clock; zero if unknown
	Low          polar.Key
	Offset       int   // where in the list Low was last seen, counted from 0
	TotalCount   int   // as Polar counted when the walk began
	RowsRejected int64 // so far
	Method       Method
	MeterID      uuid.UUID // of a sweep, while it walks its first meter; zero otherwise
	CustomerID   uuid.UUID // of a sweep, the last customer done; zero before the first
	Fingerprint  string
}

// A Method is how a full run reads, and so how it proves that it saw everything.
type Method string

// The methods, as in sync_runs.method.
const (
	Walk  Method = "walk"  // overlapping pages of the whole list
	Sweep Method = "sweep" // sets of customers, and Polar's rank of the last row
)

// LoadCursor returns the cursor of the organization's unfinished full run, or nil if
// there is none that has this fingerprint and is known to be young enough. Any
// other cursor is dropped together with its suspects, so that the next run starts
// from nothing.
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
    rows_rejected,
    method,
    meter_id,
    customer_id
  FROM polar.walk_cursors
 WHERE organization_id = $1`
	if err := exec(ctx, s.conn, "drop cursor", drop, s.organization, fingerprint, cursorLifetime); err != nil {
		return nil, err
	}
	if err := exec(ctx, s.conn, "drop suspects", dropSuspects, s.organization); err != nil {
		return nil, err
	}
	list, err := collect(ctx, s.conn, "load cursor", func(row pgx.CollectableRow) (*Cursor, error) {
		c := &Cursor{Fingerprint: fingerprint}
		var meter, customer pgtype.UUID
		err := row.Scan(&c.BeganAt, &c.PolarBeganAt, &c.Low.CreatedAt, &c.Low.CustomerID, &c.Low.MeterID,
			&c.Offset, &c.TotalCount, &c.RowsRejected, &c.Method, &meter, &customer)
		c.MeterID, c.CustomerID = meter.Bytes, customer.Bytes
		return c, err
	}, load, s.organization)
	if err != nil || len(list) == 0 {
		return nil, err
	}
	return list[0], nil
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
    meter_id,
    customer_id,
    method,
    fingerprint
)
VALUES ($1, $2, $3, now(), $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)`

const dropCursorSQL = `DELETE FROM polar.walk_cursors WHERE organization_id = $1`

func (w *Writer) queueCursor(batch *pgx.Batch, c *Cursor) {
	if c == nil {
		return
	}
	batch.Queue(dropCursorSQL, w.organization)
	batch.Queue(saveCursorSQL, w.organization, c.BeganAt, timestamp(c.PolarBeganAt), c.Low.CreatedAt,
		c.Low.CustomerID, c.Low.MeterID, c.Offset, c.TotalCount, c.RowsRejected,
		id(c.MeterID), id(c.CustomerID), cmp.Or(c.Method, Walk), c.Fingerprint)
}
