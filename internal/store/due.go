package store

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
)

// LastRuns are the runs that decide what is due for an organization. Times are
// by the database's clock, and zero where there was no such run.
type LastRuns struct {
	FullStarted, FullFinished time.Time // the last successful full run
	IncrementalStarted        time.Time // the last successful incremental run

	// Failures counts the full runs that have failed since the last successful
	// one began, up to mostFailures; FailedAt is when the last of them ended.
	Failures int
	FailedAt time.Time
}

// mostFailures is more than a growing wait has steps.
const mostFailures = 10

// LastRuns looks up the runs of an organization, by its label if id is zero. It
// counts no rows.
func (s *Store) LastRuns(ctx context.Context, id uuid.UUID, name string) (LastRuns, error) {
	const sql = `
SELECT
    done.started_at,
    done.finished_at,
    tick.started_at,
    failed.n,
    failed.at
  FROM polar.organizations o
  LEFT JOIN LATERAL (
    SELECT
        r.started_at,
        r.finished_at
      FROM polar.sync_runs r
     WHERE r.organization_id = o.id
       AND r.kind = 'full'
       AND r.status = 'succeeded'
     ORDER BY r.started_at DESC
     LIMIT 1
  ) done ON true
  LEFT JOIN LATERAL (
    SELECT r.started_at
      FROM polar.sync_runs r
     WHERE r.organization_id = o.id
       AND r.kind = 'incremental'
       AND r.status = 'succeeded'
     ORDER BY r.started_at DESC
     LIMIT 1
  ) tick ON true
 CROSS JOIN LATERAL (
    SELECT
        count(*) AS n,
        max(l.finished_at) AS at
      FROM (
        SELECT r.finished_at
          FROM polar.sync_runs r
         WHERE r.organization_id = o.id
           AND r.kind = 'full'
           AND r.status = 'failed'
           AND r.started_at > coalesce(done.started_at, '-infinity')
         ORDER BY r.started_at DESC
         LIMIT $3
      ) l
  ) failed
 WHERE o.id = $1
    OR $1 IS NULL AND o.name = $2
 ORDER BY greatest(done.started_at, tick.started_at) DESC NULLS LAST
 LIMIT 1`
	var fullStarted, fullFinished, incremental, failedAt *time.Time
	var last LastRuns
	err := s.pool.QueryRow(ctx, sql, uuid.NullUUID{UUID: id, Valid: id != uuid.Nil}, name, mostFailures).
		Scan(&fullStarted, &fullFinished, &incremental, &last.Failures, &failedAt)
	if errors.Is(err, pgx.ErrNoRows) {
		return LastRuns{}, nil
	}
	if err != nil {
		return LastRuns{}, fmt.Errorf("look for the last runs: %w", err)
	}
	last.FullStarted, last.FullFinished = orZero(fullStarted), orZero(fullFinished)
	last.IncrementalStarted, last.FailedAt = orZero(incremental), orZero(failedAt)
	return last, nil
}

func orZero(t *time.Time) time.Time {
	if t == nil {
		return time.Time{}
	}
	return t.UTC()
}
