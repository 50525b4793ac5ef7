package store

import (
	"context"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
)

// An Activity is what is being done for one organization.
type Activity struct {
	Running  []Running // a walk, and a tick between its blocks, at most; the walk first
	Requests float64   // sent to Polar within the last minute, runs taken to send theirs evenly
}

// A Running is a run that is booked as under way.
type Running struct {
	ID        int64
	Kind      Kind
	StartedAt time.Time // zero if it is dated later than now
	Counts    Counts    // booked so far, with the last block
	Held      bool      // somebody holds the organization's lock; else the run's process is gone

	// Where the last block of a walk ended, of the rows that Polar counted when
	// it began; Total is 0 before the first block, and for what is no walk.
	Remaining, Total int64
}

// Activity returns what is being done, by organization.
func (v *View) Activity(ctx context.Context) (map[uuid.UUID]Activity, error) {
	running, err := v.running(ctx)
	if err != nil {
		return nil, err
	}
	found := map[uuid.UUID]Activity{}
	_, err = collect(ctx, v, "requests of the last minute", requestsSQL, func(row pgx.CollectableRow) (struct{}, error) {
		var organization uuid.UUID
		var a Activity
		err := row.Scan(&organization, &a.Requests)
		a.Running = running[organization]
		found[organization] = a
		return struct{}{}, err
	})
	return found, err
}

// requestsSQL leaves out runs that are dated later than now: when they sent their
// requests is unknown.
const requestsSQL = `
SELECT
    o.id,
    coalesce(q.requests, 0)
  FROM polar.organizations o
 CROSS JOIN LATERAL (
      SELECT sum(c.requests * CASE
                 WHEN c.finished_at <= c.started_at THEN 1
                 ELSE extract(epoch FROM c.finished_at - greatest(c.started_at, now() - interval '1 minute'))
                      / extract(epoch FROM c.finished_at - c.started_at)
             END)::double precision AS requests
        FROM (
            SELECT
                r.started_at,
                coalesce(r.finished_at, clock_timestamp()) AS finished_at,
                r.requests
              FROM polar.sync_runs r
             WHERE r.organization_id = o.id
               AND r.kind = 'incremental'
               AND r.started_at > now() - interval '10 minutes'
               AND r.started_at <= now()
            UNION ALL
            SELECT
                r.started_at,
                coalesce(r.finished_at, clock_timestamp()),
                r.requests
              FROM polar.sync_runs r
             WHERE r.organization_id = o.id
               AND r.kind IN ('full', 'repair', 'refresh')
               AND r.started_at > now() - interval '1 day'
               AND r.started_at <= now()
        ) c
       WHERE c.finished_at > now() - interval '1 minute'
         AND c.finished_at <= clock_timestamp()
 ) q`

const runningSQL = `
SELECT
    r.organization_id,
    r.id,
    r.kind,
    CASE WHEN r.started_at <= now() THEN r.started_at END,
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
    CASE WHEN r.kind = 'full' THEN coalesce(c.low_offset, 0) ELSE 0 END,
    CASE WHEN r.kind = 'full' THEN coalesce(c.total_count, 0) ELSE 0 END
  FROM polar.sync_runs r
  LEFT JOIN polar.walk_cursors c ON c.organization_id = r.organization_id
 WHERE r.status = 'running'
 ORDER BY r.organization_id, r.kind = 'full' DESC, r.id DESC`

// running returns the runs under way by organization. A process that was killed
// leaves its run booked as running until the next one begins, but never its
// lock, so that the locks tell the two apart. The halves of an advisory lock's
// key stand in pg_locks as classid and objid (source: Postgres's documentation
// of pg_locks).
func (v *View) running(ctx context.Context) (map[uuid.UUID][]Running, error) {
	const locks = `
SELECT (l.classid::bigint << 32) | l.objid::bigint
  FROM pg_catalog.pg_locks l
 WHERE l.locktype = 'advisory'
   AND l.objsubid = 1
   AND l.granted
   AND l.database = (SELECT d.oid FROM pg_catalog.pg_database d WHERE d.datname = current_database())`
	keys, err := collect(ctx, v, "locks", locks, pgx.RowTo[int64])
	if err != nil {
		return nil, err
	}
	held := make(map[int64]bool, len(keys))
	for _, k := range keys {
		held[k] = true
	}
	found := map[uuid.UUID][]Running{}
	_, err = collect(ctx, v, "runs under way", runningSQL, func(row pgx.CollectableRow) (struct{}, error) {
		var r Running
		var organization uuid.UUID
		var kind string
		var started *time.Time
		c := &r.Counts
		err := row.Scan(&organization, &r.ID, &kind, &started, &c.Requests, &c.Pages, &c.RowsSeen, &c.RowsInserted,
			&c.RowsUpdated, &c.RowsUnchanged, &c.RowsDeleted, &c.RowsRejected, &c.Retries, &c.RateLimited, &r.Remaining, &r.Total)
		r.Kind, r.Held = Kind(kind), held[lockKey(organization)]
		fill(&r.StartedAt, started)
		found[organization] = append(found[organization], r)
		return struct{}{}, err
	})
	return found, err
}
