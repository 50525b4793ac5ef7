package store

import (
	"context"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
)

// A Standing is how one organization's mirror stands, by the runs of every
// replica. Times are zero where there is nothing to tell.
type Standing struct {
	OrganizationID uuid.UUID
	Organization   string

	FullStarted, FullFinished   time.Time // last full run that succeeded
	FullExact                   bool      // what it proved
	FullRejected                int64     // rows it could not mirror
	TickStarted, TickFinished   time.Time // last incremental run that succeeded
	ExactStarted, ExactFinished time.Time // last run of any kind that proved that it saw everything

	Failed   Failure
	Running  []Running // a walk, and a tick between its blocks, at most; the walk first
	Requests float64   // sent to Polar within the last minute, runs taken to send theirs evenly
}

// A Failure is a run that failed, nothing having made it good since; its
// Message is empty if there is none.
type Failure struct {
	Kind    Kind
	At      time.Time
	Message string
}

// A Running is a run that is booked as under way.
type Running struct {
	ID        int64
	Kind      Kind
	StartedAt time.Time
	Counts    Counts // booked so far, with the last block
	Held      bool   // somebody holds the organization's lock; else the run's process is gone

	// Where the last block of a walk ended, of the rows that Polar counted when
	// it began; Total is 0 before the first block, and for what is no walk.
	Remaining, Total int64
}

// Standings returns how every organization stands, by name; of two with one
// name, as a changed id leaves them, the one mirrored last comes last. It costs some index
// look-ups an organization, however many rows and runs there are.
func (v *View) Standings(ctx context.Context) ([]Standing, error) {
	list, err := collect(ctx, v, "standings", standingsSQL, scanStanding)
	if err != nil {
		return nil, err
	}
	running, err := v.running(ctx)
	if err != nil {
		return nil, err
	}
	for i := range list {
		list[i].Running = running[list[i].OrganizationID]
	}
	return list, nil
}

const standingsSQL = `
SELECT
    o.id,
    o.name,
    f.started_at,
    f.finished_at,
    coalesce(f.exact, false),
    coalesce(f.rows_rejected, 0),
    t.started_at,
    t.finished_at,
    e.started_at,
    e.finished_at,
    coalesce(x.kind, ''),
    x.finished_at,
    coalesce(x.error, ''),
    coalesce(q.requests, 0)
  FROM polar.organizations o
  LEFT JOIN LATERAL (
      SELECT
          r.started_at,
          r.finished_at,
          r.exact,
          r.rows_rejected
        FROM polar.sync_runs r
       WHERE r.organization_id = o.id AND r.kind = 'full' AND r.status = 'succeeded'
       ORDER BY r.started_at DESC
       LIMIT 1
  ) f ON true
  LEFT JOIN LATERAL (
      SELECT
          r.started_at,
          r.finished_at
        FROM polar.sync_runs r
       WHERE r.organization_id = o.id AND r.kind = 'incremental' AND r.status = 'succeeded'
       ORDER BY r.started_at DESC
       LIMIT 1
  ) t ON true
  LEFT JOIN LATERAL (
      SELECT
          r.started_at,
          r.finished_at
        FROM polar.sync_runs r
       WHERE r.organization_id = o.id AND r.exact AND r.status = 'succeeded'
       ORDER BY r.started_at DESC
       LIMIT 1
  ) e ON true
  LEFT JOIN LATERAL (
      SELECT
          r.kind,
          r.finished_at,
          r.error
        FROM polar.sync_runs r
       WHERE r.organization_id = o.id
         AND r.status = 'failed'
         AND NOT EXISTS (
             SELECT
               FROM polar.sync_runs n
              WHERE n.organization_id = o.id
                AND n.status = 'succeeded'
                AND n.kind IN (r.kind, 'full')
                AND n.started_at > r.started_at)
       ORDER BY r.finished_at DESC
       LIMIT 1
  ) x ON true
  LEFT JOIN LATERAL (
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
             WHERE r.organization_id = o.id AND r.kind = 'incremental' AND r.started_at > now() - interval '10 minutes'
            UNION ALL
            SELECT
                r.started_at,
                coalesce(r.finished_at, clock_timestamp()),
                r.requests
              FROM polar.sync_runs r
             WHERE r.organization_id = o.id AND r.kind IN ('full', 'repair') AND r.started_at > now() - interval '1 day'
        ) c
       WHERE c.finished_at > now() - interval '1 minute'
  ) q ON true
 ORDER BY
    o.name,
    greatest(f.finished_at, t.finished_at) NULLS FIRST,
    o.id`

func scanStanding(row pgx.CollectableRow) (Standing, error) {
	var s Standing
	var kind string
	var fullStarted, fullFinished, tickStarted, tickFinished, exactStarted, exactFinished, failed *time.Time
	err := row.Scan(&s.OrganizationID, &s.Organization, &fullStarted, &fullFinished, &s.FullExact, &s.FullRejected,
		&tickStarted, &tickFinished, &exactStarted, &exactFinished, &kind, &failed, &s.Failed.Message, &s.Requests)
	s.Failed.Kind = Kind(kind)
	fill(&s.FullStarted, fullStarted)
	fill(&s.FullFinished, fullFinished)
	fill(&s.TickStarted, tickStarted)
	fill(&s.TickFinished, tickFinished)
	fill(&s.ExactStarted, exactStarted)
	fill(&s.ExactFinished, exactFinished)
	fill(&s.Failed.At, failed)
	return s, err
}

const runningSQL = `
SELECT
    r.organization_id,
    r.id,
    r.kind,
    r.started_at,
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
 ORDER BY r.organization_id, r.kind = 'full' DESC, r.started_at DESC`

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
		c := &r.Counts
		err := row.Scan(&organization, &r.ID, &kind, &r.StartedAt, &c.Requests, &c.Pages, &c.RowsSeen, &c.RowsInserted,
			&c.RowsUpdated, &c.RowsUnchanged, &c.RowsDeleted, &c.RowsRejected, &c.Retries, &c.RateLimited, &r.Remaining, &r.Total)
		r.Kind, r.StartedAt, r.Held = Kind(kind), r.StartedAt.UTC(), held[lockKey(organization)]
		found[organization] = append(found[organization], r)
		return struct{}{}, err
	})
	return found, err
}
