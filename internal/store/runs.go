package store

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"
)

// A Kind says what a run does.
type Kind string

// The kinds of runs, as in sync_runs.kind and in the history's source.
const (
	Full        Kind = "full"        // every page
	Incremental Kind = "incremental" // what changed
	Repair      Kind = "repair"      // rows that verify found different
	Refresh     Kind = "refresh"     // customers that somebody asked for
	Webhook     Kind = "webhook"     // sent by Polar; no run, but a source in the history
)

// A Run is one organization's run of any kind: one row of polar.sync_runs.
type Run struct {
	ID        int64
	Kind      Kind
	StartedAt time.Time // by the database's clock
}

// Counts are what a run did, as in polar.sync_runs.
type Counts struct {
	Requests      int64
	Pages         int64
	RowsSeen      int64
	RowsInserted  int64
	RowsUpdated   int64
	RowsUnchanged int64
	RowsDeleted   int64
	RowsRejected  int64
	Retries       int64
	RateLimited   int64
}

// Add adds o to c.
func (c *Counts) Add(o Counts) {
	c.Requests += o.Requests
	c.Pages += o.Pages
	c.RowsSeen += o.RowsSeen
	c.RowsInserted += o.RowsInserted
	c.RowsUpdated += o.RowsUpdated
	c.RowsUnchanged += o.RowsUnchanged
	c.RowsDeleted += o.RowsDeleted
	c.RowsRejected += o.RowsRejected
	c.Retries += o.Retries
	c.RateLimited += o.RateLimited
}

// RegisterOrganization records the organization and its label.
func (s *Store) RegisterOrganization(ctx context.Context, id uuid.UUID, name string) error {
	const sql = `
INSERT INTO polar.organizations AS o (id, name)
VALUES ($1, $2)
ON CONFLICT (id) DO UPDATE SET
    name = excluded.name
WHERE o.name IS DISTINCT FROM excluded.name`
	return exec(ctx, s.pool, "register organization "+name, sql, id, name)
}

// ForgetFoundChange forgets what runs found that no webhook announced, once the
// organization has no webhooks any more.
func (s *Store) ForgetFoundChange(ctx context.Context, organization uuid.UUID) error {
	const sql = `
UPDATE polar.organizations
   SET found_change_at = NULL
 WHERE id = $1`
	return exec(ctx, s.pool, "forget changes without webhooks", sql, organization)
}

// answersSQL is whether the run r answers its slot for good, $1 and $2 being its
// organization and kind. A full run stays due until it is done. And a clock that was
// ahead answered the slot before its time if the run began more than a minute before
// its slot, or if a later one is dated later than now.
const answersSQL = `(
       (r.kind <> 'full' OR r.status = 'succeeded')
       AND r.slot <= r.started_at + interval '1 minute'
       AND NOT EXISTS (
           SELECT
             FROM polar.sync_runs l
            WHERE l.organization_id = $1
              AND l.kind = $2
              AND l.started_at > now()
              AND l.id > r.id))`

// StartRun starts a run. Other runs of the organization with the status running,
// unless this session started them, belong to processes that died, since this
// session holds the lock: they become abandoned; see [Session.Abandoned].
// A slot (zero for none) that has been answered before is [ErrSlotTaken]. A full
// run stays due until it is done, so a slot whose full run failed is free again,
// as is one that was answered by a clock that was ahead; see [Store.AcquireSlot].
func (s *Session) StartRun(ctx context.Context, kind Kind, slot time.Time) (*Run, error) {
	const free = `
UPDATE polar.sync_runs r
   SET slot = NULL
 WHERE r.organization_id = $1
   AND r.kind = $2
   AND r.slot = $3::timestamptz
   AND NOT ` + answersSQL
	const start = `
INSERT INTO polar.sync_runs (organization_id, kind, status, started_at, slot)
VALUES ($1, $2, 'running', clock_timestamp(), $3)
ON CONFLICT ON CONSTRAINT sync_runs_slot_key DO NOTHING
RETURNING id, started_at`
	run := &Run{Kind: kind}
	batch := &pgx.Batch{}
	key := []int64{lockKey(s.organization)}
	batch.Queue(abandonSQL, []pgtype.UUID{id(s.organization)}, key, s.open).Query(func(rows pgx.Rows) error {
		found, err := pgx.CollectRows(rows, pgx.RowToStructByPos[RunRecord])
		s.dead = append(s.dead, found...)
		return err
	})
	if !slot.IsZero() {
		batch.Queue(free, s.organization, string(kind), slot)
	}
	batch.Queue(start, s.organization, string(kind), timestamp(slot)).QueryRow(func(row pgx.Row) error {
		return row.Scan(&run.ID, &run.StartedAt)
	})
	err := s.conn.SendBatch(ctx, batch).Close()
	if errors.Is(err, pgx.ErrNoRows) {
		return nil, ErrSlotTaken
	}
	if err != nil {
		return nil, fmt.Errorf("start %s run: %w", kind, cured(err))
	}
	s.open = append(s.open, run.ID)
	return run, nil
}

// abandonSQL ends the runs of dead processes in the organizations $1: no other session
// holds their locks, whose keys are $2. Runs that this session itself started are
// excepted.
const abandonSQL = `
WITH locked AS MATERIALIZED (
    SELECT l.id
      FROM unnest($1::uuid[], $2::bigint[]) AS l (id, key)
     WHERE pg_try_advisory_xact_lock(l.key)
)
UPDATE polar.sync_runs r
   SET status = 'abandoned',
       finished_at = now(),
       error = 'the process ended without finishing the run'
  FROM polar.organizations o
  JOIN locked ON locked.id = o.id
 WHERE r.organization_id = o.id
   AND r.status = 'running'
   AND r.id <> ALL ($3::bigint[])
RETURNING` + runColumns

// Abandoned returns the runs of dead processes that the session has found since the
// last call. What they saved remains, and no listener was notified of it.
func (s *Session) Abandoned() []RunRecord {
	dead := s.dead
	s.dead = nil
	return dead
}

// abandonAge is how old a run must be before AbandonDead tries its organization's
// lock: for a moment that keeps the lock from others, so it should rarely meet a
// run that has just started.
const abandonAge = 30 * time.Second

// AbandonDead marks runs of dead processes as abandoned, whatever their
// organization; StartRun does so only for an organization that is still worked
// on. A run's process is alive as long as the organization's lock is held.
func (s *Store) AbandonDead(ctx context.Context) ([]RunRecord, error) {
	const running = `
SELECT DISTINCT organization_id
  FROM polar.sync_runs
 WHERE status = 'running'
   AND (started_at < now() - $1::interval OR started_at > now())`
	ids, err := collect(ctx, s.pool, "look for runs of dead processes", pgx.RowTo[uuid.UUID], running, abandonAge)
	if err != nil || len(ids) == 0 {
		return nil, err
	}
	return collect(ctx, s.pool, "abandon runs of dead processes", pgx.RowToStructByPos[RunRecord],
		abandonSQL, column(ids, id), column(ids, lockKey), []int64{})
}

// LastSlot returns the newest scheduled time that a run of the organization and
// kind answered; zero if there is none. Slots of a clock that was more than a
// minute ahead do not count.
func (s *Session) LastSlot(ctx context.Context, kind Kind) (time.Time, error) {
	const sql = `
SELECT max(slot)
  FROM polar.sync_runs
 WHERE organization_id = $1
   AND kind = $2
   AND slot <= now() + interval '1 minute'`
	return value[time.Time](ctx, s.conn, "find the last slot", sql, s.organization, kind)
}

// WhySkipped says why no run answered the scheduled times from first to last:
// another run was under way, or the database knows no reason.
func (s *Session) WhySkipped(ctx context.Context, first, last time.Time) (string, error) {
	const sql = `
SELECT coalesce((
    SELECT r.kind || ' run ' || r.id || ' was under way' ||
           CASE WHEN r.started_at <= $2 AND coalesce(r.finished_at, 'infinity') > $3 THEN '' ELSE ' for a part of that time' END
      FROM polar.sync_runs r
     WHERE r.organization_id = $1
       AND r.kind IN ('incremental', 'full', 'repair')
       AND r.started_at > $2::timestamptz - interval '7 days'
       AND r.started_at <= $3
       AND coalesce(r.finished_at, 'infinity') > $2
     ORDER BY r.started_at
     LIMIT 1
), 'no syncd was running, or each was busy with other organizations or logged a reason of its own')`
	return value[string](ctx, s.conn, "find the run that kept the schedule from being met", sql, s.organization, first, last)
}

// A RunRecord is a run as polar.sync_runs has it.
type RunRecord struct {
	ID             int64
	OrganizationID uuid.UUID
	Organization   string // label
	Kind           Kind
	Status         string // running, succeeded, failed or abandoned
	StartedAt      time.Time
	FinishedAt     time.Time // zero while it runs
	Counts
	Exact  *bool  // nil for runs that do not try
	Method Method // by which it proved that it is; "" if it is not
	Error  string // why it failed
}

// runColumns are those of a [RunRecord].
const runColumns = `
    r.id,
    r.organization_id,
    o.name,
    r.kind,
    r.status,
    r.started_at,
    r.finished_at,
    r.requests,
    r.pages,
    r.rows_seen,
    r.rows_inserted,
    r.rows_updated,
    r.rows_unchanged,
    r.rows_deleted,
    r.rows_rejected,
    r.retries,
    r.rate_limited,
    r.exact,
    coalesce(r.method, ''),
    coalesce(r.error, '')`

// An Outcome is how a run ended.
type Outcome struct {
	Counts Counts // what no saved block has counted yet
	Exact  *bool  // nil for runs that do not try
	Err    error  // nil if the run succeeded
	// Stopped says that Err is no failure: the run was asked to stop, and becomes
	// abandoned.
	Stopped bool
	Floor   time.Time // when the run began by Polar's clock; zero if unknown
	// UndatedRows is the number of rows without modified_at that a tick found; nil if
	// it did not count them.
	UndatedRows *int
	DropCursor  bool // the full run is finished: its cursor and suspects are dropped
	Method      Method
	Fingerprint string // of a run of every page, as its cursor has it
	// FoundChange is when, by Polar's clock, the newest change was made that the run
	// found and a webhook should have brought; zero if it found none.
	FoundChange time.Time
}

// FinishRun ends the run and, if it succeeded, moves the tick's floor to o.Floor.
// A walk never moves it backward, since ticks between its blocks began after it;
// a tick does, since only a clock set back at Polar can make it begin before the
// last one.
//
// All of it happens or nothing: a crash before leaves the run to be abandoned, and
// the cursor where it is. What is reported as done is on disk: this transaction
// waits for the disk, and so for all blocks before it.
//
// A run that was asked to stop while it waited for the database lost its
// connection with the statement that was given up, and with it the lock. It is
// finished on another connection, unless a process that has the lock by now has
// already abandoned it.
func (s *Session) FinishRun(ctx context.Context, run *Run, o Outcome) error {
	batch := &pgx.Batch{}
	o.queue(batch, run.ID)
	if o.DropCursor {
		batch.Queue(dropCursorSQL, s.organization)
	}
	if o.Err == nil && !o.Floor.IsZero() {
		batch.Queue(moveFloorSQL, s.organization, timestamp(o.Floor), run.Kind == Incremental, o.UndatedRows)
	}
	if !o.FoundChange.IsZero() {
		batch.Queue(foundChangeSQL, s.organization, o.FoundChange)
	}
	send := func() error { return s.conn.SendBatch(ctx, batch).Close() }
	if o.Stopped && s.conn.Conn().IsClosed() {
		send = func() error { return s.pool.send(ctx, batch) }
	}
	if err := send(); err != nil {
		return fmt.Errorf("finish run %d: %w", run.ID, cured(err))
	}
	s.open = slices.DeleteFunc(s.open, func(id int64) bool { return id == run.ID })
	return nil
}

// queue ends the run of that number so, on disk.
func (o *Outcome) queue(batch *pgx.Batch, id int64) {
	status, text := "succeeded", ""
	if o.Err != nil {
		status, text = "failed", storable(o.Err.Error(), maxText)
	}
	if o.Stopped {
		status = "abandoned"
	}
	batch.Queue(waitForDiskSQL)
	queueCounts(batch, id, o.Counts)
	batch.Queue(finishRunSQL, id, status, o.Exact, unlessEmpty(text), o.Method, unlessEmpty(o.Fingerprint))
}

// RecordRun records a run that took so long, and returns its number. It is for runs
// that do not hold the organization's lock, which are recorded once they have ended:
// whoever holds it takes a run that is still called running for a dead process's.
// What is reported as done is on disk, as after [Session.FinishRun].
func (s *Store) RecordRun(ctx context.Context, organization uuid.UUID, kind Kind, took time.Duration, o Outcome) (id int64, err error) {
	const sql = `
INSERT INTO polar.sync_runs (organization_id, kind, status, started_at)
VALUES ($1, $2, 'running', clock_timestamp() - $3::interval)
RETURNING id`
	err = pgx.BeginFunc(ctx, s.pool, func(tx pgx.Tx) error {
		id, err = value[int64](ctx, tx, "add", sql, organization, kind, took)
		if err != nil {
			return err
		}
		batch := &pgx.Batch{}
		o.queue(batch, id)
		return tx.SendBatch(ctx, batch).Close()
	})
	if err != nil {
		return 0, fmt.Errorf("record %s run: %w", kind, cured(err))
	}
	return id, nil
}

const finishRunSQL = `
UPDATE polar.sync_runs
   SET status = $2,
       exact = $3,
       method = CASE WHEN $3 THEN nullif($5, '') END,
       fingerprint = $6,
       error = $4,
       finished_at = clock_timestamp()
 WHERE id = $1
   AND status = 'running'`

const moveFloorSQL = `
INSERT INTO polar.tick_floors AS f (organization_id, floor_at, null_rows)
VALUES ($1, $2, $4)
ON CONFLICT (organization_id) DO UPDATE SET
    floor_at = CASE WHEN $3 THEN excluded.floor_at ELSE greatest(f.floor_at, excluded.floor_at) END,
    null_rows = coalesce(excluded.null_rows, f.null_rows)`

const foundChangeSQL = `
UPDATE polar.organizations
   SET found_change_at = $2
 WHERE id = $1
   AND (found_change_at IS NULL OR found_change_at < $2)`

const addCountsSQL = `
UPDATE polar.sync_runs
   SET requests = requests + $2,
       pages = pages + $3,
       rows_seen = rows_seen + $4,
       rows_inserted = rows_inserted + $5,
       rows_updated = rows_updated + $6,
       rows_unchanged = rows_unchanged + $7,
       rows_deleted = rows_deleted + $8,
       rows_rejected = rows_rejected + $9,
       retries = retries + $10,
       rate_limited = rate_limited + $11
 WHERE id = $1`

// queueCounts adds to what the run has done, in the transaction that did it. Changes
// by webhooks belong to no run.
func queueCounts(batch *pgx.Batch, runID int64, c Counts) {
	if c == (Counts{}) || runID == 0 {
		return
	}
	batch.Queue(addCountsSQL, runID, c.Requests, c.Pages, c.RowsSeen, c.RowsInserted, c.RowsUpdated,
		c.RowsUnchanged, c.RowsDeleted, c.RowsRejected, c.Retries, c.RateLimited)
}
