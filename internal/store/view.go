package store

import (
	"context"
	"slices"
	"strconv"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
)

// A View is one snapshot of the database for people to look at. Its methods
// write nothing and agree with each other.
type View struct{ tx pgx.Tx }

// View calls use with a snapshot. The server ends a statement that takes longer
// than limit: otherwise it would burden the mirror long after nobody waits for its
// result.
func (s *Store) View(ctx context.Context, limit time.Duration, use func(*View) error) error {
	const bounds = `
SELECT
    set_config('statement_timeout', $1, true),
    set_config('jit', 'off', true)`
	opts := pgx.TxOptions{IsoLevel: pgx.RepeatableRead, AccessMode: pgx.ReadOnly}
	return pgx.BeginTxFunc(ctx, s.pool, opts, func(tx pgx.Tx) error {
		if err := exec(ctx, tx, "bound statements", bounds, strconv.FormatInt(max(limit.Milliseconds(), 1), 10)); err != nil {
			return err
		}
		return use(&View{tx: tx})
	})
}

// A RunsQuery says which runs to list.
type RunsQuery struct {
	Organization uuid.UUID // zero: all
	Idle         bool      // also ticks that found nothing
	Before       int64     // only runs with a lower number; 0: all
	Limit        int
}

// Runs lists runs, the newest first.
func (v *View) Runs(ctx context.Context, q RunsQuery) ([]RunRecord, error) {
	const sql = `
SELECT` + runColumns + `
  FROM polar.sync_runs r
  JOIN polar.organizations o ON o.id = r.organization_id
 WHERE ($1::uuid IS NULL OR r.organization_id = $1)
   AND ($2::boolean
        OR r.kind <> 'incremental'
        OR r.status <> 'succeeded'
        OR r.rows_inserted + r.rows_updated + r.rows_deleted + r.rows_rejected > 0)
   AND ($3::bigint = 0 OR r.id < $3)
 ORDER BY r.id DESC
 LIMIT $4`
	return collect(ctx, v.tx, "read runs", pgx.RowToStructByPos[RunRecord], sql, id(q.Organization), q.Idle, q.Before, q.Limit)
}

// An Activity is what is being done for one organization.
type Activity struct {
	Running  []Running // at most a walk and a tick between its blocks; the walk first
	Requests float64   // sent to Polar within the last minute, as if each run sent its own evenly
}

// A Running is a run whose status is running.
type Running struct {
	RunRecord // its counts are those up to the last saved block

	// Where the last block of a walk ended, of the rows that Polar counted when
	// it began; Total is 0 before the first block, and for what is no walk.
	Remaining, Total int64

	Held bool `db:"-"` // somebody holds the organization's lock; else the run's process is gone
}

// Activity returns what is being done, by organization.
//
// Each run is taken to have sent its requests evenly. Runs that are dated later than
// now are left out: when they sent theirs is unknown.
//
// A process that was killed leaves its run with the status running until the next
// one begins, but never its lock, so the locks tell the two apart. The halves of an
// advisory lock's key are classid and objid in pg_locks (source: Postgres's
// documentation of pg_locks).
func (v *View) Activity(ctx context.Context) (map[uuid.UUID]Activity, error) {
	const requests = `
SELECT
    r.organization_id,
    sum(r.requests * CASE
        WHEN e.at <= r.started_at THEN 1
        ELSE extract(epoch FROM e.at - greatest(r.started_at, now() - interval '1 minute')) / extract(epoch FROM e.at - r.started_at)
    END)::double precision
  FROM polar.organizations o
  JOIN polar.sync_runs r ON r.organization_id = o.id
 CROSS JOIN LATERAL (SELECT coalesce(r.finished_at, clock_timestamp()) AS at) e
 WHERE r.started_at <= now()
   AND (r.kind = 'incremental' AND r.started_at > now() - interval '10 minutes'
        OR r.kind IN ('full', 'repair', 'refresh') AND r.started_at > now() - interval '1 day')
   AND e.at > now() - interval '1 minute'
   AND e.at <= clock_timestamp()
 GROUP BY r.organization_id`
	const locks = `
SELECT (l.classid::bigint << 32) | l.objid::bigint
  FROM pg_catalog.pg_locks l
 WHERE l.locktype = 'advisory'
   AND l.objsubid = 1
   AND l.granted
   AND l.database = (SELECT d.oid FROM pg_catalog.pg_database d WHERE d.datname = current_database())`
	const running = `
SELECT` + runColumns + `,
    CASE
        WHEN r.kind <> 'full' OR c.method IS NULL THEN 0
        WHEN c.method = 'sweep' AND c.meter_id IS NULL THEN greatest(c.total_count - c.low_offset, 0)
        ELSE c.low_offset
    END,
    CASE WHEN r.kind = 'full' THEN coalesce(c.total_count, 0) ELSE 0 END
  FROM polar.sync_runs r
  JOIN polar.organizations o ON o.id = r.organization_id
  LEFT JOIN polar.cursors c ON c.organization_id = r.organization_id
 WHERE r.status = 'running'
 ORDER BY r.organization_id, r.kind = 'full' DESC, r.id DESC`
	type sent struct {
		OrganizationID uuid.UUID
		Requests       float64
	}
	counted, err := collect(ctx, v.tx, "count requests of the last minute", pgx.RowToStructByPos[sent], requests)
	if err != nil {
		return nil, err
	}
	keys, err := collect(ctx, v.tx, "read locks", pgx.RowTo[int64], locks)
	if err != nil {
		return nil, err
	}
	runs, err := collect(ctx, v.tx, "read running runs", pgx.RowToStructByPos[Running], running)
	found := map[uuid.UUID]Activity{}
	for _, c := range counted {
		found[c.OrganizationID] = Activity{Requests: c.Requests}
	}
	for _, r := range runs {
		r.Held = slices.Contains(keys, lockKey(r.OrganizationID))
		activity := found[r.OrganizationID]
		activity.Running = append(activity.Running, r)
		found[r.OrganizationID] = activity
	}
	return found, err
}
