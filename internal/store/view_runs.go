package store

import (
	"context"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
)

// A RunRecord is a run as polar.sync_runs has it.
type RunRecord struct {
	ID           int64
	Organization string // label
	Kind         Kind
	Status       string // running, succeeded, failed or abandoned
	StartedAt    time.Time
	FinishedAt   time.Time // zero while it runs
	Counts
	Exact  *bool  // nil for runs that do not try
	Method Method // by which it proved that it is; "" if it is not
	Error  string // why it failed
}

// countColumns are those of sync_runs in the order of [Counts].
const countColumns = `
    r.requests,
    r.pages,
    r.rows_seen,
    r.rows_inserted,
    r.rows_updated,
    r.rows_unchanged,
    r.rows_deleted,
    r.rows_rejected,
    r.retries,
    r.rate_limited`

// runColumns are those of a [RunRecord].
const runColumns = `
    r.id,
    o.name,
    r.kind,
    r.status,
    r.started_at,
    r.finished_at,` + countColumns + `,
    r.exact,
    coalesce(r.method, ''),
    coalesce(r.error, '')`

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
