package store

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
)

// An Abandoned is a run whose process ended without finishing it: what it saved
// remains, and no listener was notified of it.
type Abandoned struct {
	OrganizationID uuid.UUID
	Organization   string // label
	RunID          int64
	Kind           Kind
	Counts
}

// abandonSQL ends the runs of dead processes. The session or transaction holds the
// organization's lock; the runs that the session itself started are excepted.
const abandonSQL = `
UPDATE polar.sync_runs r
   SET status = 'abandoned',
       finished_at = now(),
       error = 'the process ended without finishing the run'
  FROM polar.organizations o
 WHERE r.organization_id = $1
   AND r.status = 'running'
   AND r.id <> ALL ($2::bigint[])
   AND o.id = r.organization_id
RETURNING
    r.organization_id,
    o.name,
    r.id,
    r.kind,` + countColumns

// Abandoned returns the runs of dead processes that the session has found since
// the last call.
func (s *Session) Abandoned() []Abandoned {
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
func (s *Store) AbandonDead(ctx context.Context) ([]Abandoned, error) {
	const running = `
SELECT DISTINCT organization_id
  FROM polar.sync_runs
 WHERE status = 'running'
   AND (started_at < now() - $1::interval OR started_at > now())`
	ids, err := collect(ctx, s.pool, "look for runs of dead processes", pgx.RowTo[uuid.UUID], running, abandonAge)
	if err != nil {
		return nil, err
	}
	var all []Abandoned
	var errs []error
	for _, id := range ids {
		err := pgx.BeginFunc(ctx, s.pool, func(tx pgx.Tx) error {
			locked, err := value[bool](ctx, tx, "try lock", `SELECT pg_try_advisory_xact_lock($1)`, lockKey(id))
			if err != nil || !locked {
				return err
			}
			dead, err := collect(ctx, tx, "mark as abandoned", pgx.RowToStructByPos[Abandoned], abandonSQL, id, []int64{})
			all = append(all, dead...)
			return err
		})
		if err != nil {
			errs = append(errs, fmt.Errorf("abandon runs of organization %s: %w", id, err))
		}
	}
	return all, errors.Join(errs...)
}
