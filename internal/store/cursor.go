package store

import (
	"cmp"
	"context"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"polarmirror/internal/polar"
)

// cursorLifetime is how long an unfinished walk or backfill can be resumed.
const cursorLifetime = 24 * time.Hour

// A Cursor is where an unfinished full run resumes. A walk: every customer meter
// from Low upward that existed throughout the walk is mirrored. A sweep: the same
// of the rows of MeterID; after that, all rows of the customers up to CustomerID.
type Cursor struct {
	PolarBeganAt time.Time // by Polar's clock
	Low          polar.Key
	Offset       int   // of a walk, where in the list Low was last seen, counted from 0; of a sweep, the rows read in sets
	TotalCount   int   // rows of the list: by Polar's last answer in a walk, by its first in a sweep
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
	const sql = `
SELECT
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
  FROM polar.cursors
 WHERE organization_id = $1
   AND fingerprint = $2
   AND saved_at BETWEEN now() - $3::interval AND now()`
	list, err := collect(ctx, s.conn, "load cursor", func(row pgx.CollectableRow) (*Cursor, error) {
		c := &Cursor{Fingerprint: fingerprint}
		return c, row.Scan(&c.PolarBeganAt, &c.Low.CreatedAt, &c.Low.CustomerID, &c.Low.MeterID,
			&c.Offset, &c.TotalCount, &c.RowsRejected, &c.Method, &c.MeterID, &c.CustomerID)
	}, sql, s.organization, fingerprint, cursorLifetime)
	if err != nil {
		return nil, err
	}
	if len(list) == 1 {
		return list[0], nil
	}
	return nil, exec(ctx, s.conn, "drop cursor", dropCursorSQL, s.organization)
}

const saveCursorSQL = `
INSERT INTO polar.cursors (
    organization_id,
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
VALUES ($1, $2, now(), $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)`

// dropCursorSQL drops a cursor and its suspects.
const dropCursorSQL = `
WITH suspects AS (
    DELETE FROM polar.suspects
     WHERE organization_id = $1
)
DELETE FROM polar.cursors
 WHERE organization_id = $1`

func (w *Writer) queueCursor(batch *pgx.Batch, c *Cursor) {
	if c == nil {
		return
	}
	batch.Queue(`DELETE FROM polar.cursors WHERE organization_id = $1`, w.organization)
	batch.Queue(saveCursorSQL, w.organization, timestamp(c.PolarBeganAt), c.Low.CreatedAt,
		c.Low.CustomerID, c.Low.MeterID, c.Offset, c.TotalCount, c.RowsRejected,
		id(c.MeterID), id(c.CustomerID), cmp.Or(c.Method, Walk), c.Fingerprint)
}

// A Floor is the time from which the next tick has to look for changes.
type Floor struct {
	At          time.Time      // by Polar's clock: when the last successful run began; zero before the first
	Age         *time.Duration // by the database's clock: since that run began; nil if unknown
	UndatedRows int            // rows without modified_at, as the last tick found or as the mirror counts them
	OnePage     bool           // the mirror has fewer live rows than fit on one page
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
  FROM (SELECT) one
  LEFT JOIN polar.tick_floors f ON f.organization_id = $1`

// LoadFloor is [Store.Floor] on the session's connection.
func (s *Session) LoadFloor(ctx context.Context) (Floor, error) {
	return loadFloor(ctx, s.conn, s.organization)
}

// Floor returns where the next tick of the organization has to begin.
func (s *Store) Floor(ctx context.Context, organization uuid.UUID) (Floor, error) {
	return loadFloor(ctx, s.pool, organization)
}

func loadFloor(ctx context.Context, db querier, organization uuid.UUID) (Floor, error) {
	list, err := collect(ctx, db, "load floor", pgx.RowToStructByPos[Floor], floorSQL, organization, polar.MaxPageSize)
	if err != nil {
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
	case !f.At.After(now):
		return f.At
	case f.Age == nil:
		return time.Time{}
	default:
		return now.Add(-*f.Age)
	}
}
