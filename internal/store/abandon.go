package store

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
)

// An Abandoned is a run whose process ended without a word: what it saved
// stands, and nobody told of it.
type Abandoned struct {
	OrganizationID uuid.UUID
	Organization   string // label
	RunID          int64
	Kind           Kind
	Counts         Counts // of rows inserted, updated and deleted alone
}

// abandonSQL books the dead runs of an organization whose lock the session or
// transaction holds, but for those that the session itself opened.
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
    r.kind,
    r.rows_inserted,
    r.rows_updated,
    r.rows_deleted`

// queueAbandon appends the runs to dead when the batch is done.
func queueAbandon(batch *pgx.Batch, organization uuid.UUID, open []int64, dead *[]Abandoned) {
	batch.Queue(abandonSQL, organization, open).Query(func(rows pgx.Rows) error {
		found, err := pgx.CollectRows(rows, scanAbandoned)
		*dead = append(*dead, found...)
		return err
	})
}

func scanAbandoned(row pgx.CollectableRow) (Abandoned, error) {
	var a Abandoned
	var kind string
	err := row.Scan(&a.OrganizationID, &a.Organization, &a.RunID, &kind, &a.Counts.RowsInserted, &a.Counts.RowsUpdated, &a.Counts.RowsDeleted)
	a.Kind = Kind(kind)
	return a, err
}

// Abandoned returns the runs of dead processes that the session has found since
// it was last asked.
func (s *Session) Abandoned() []Abandoned {
	dead := s.dead
	s.dead = nil
	return dead
}

// graceOfRuns is how old a run must be before it is looked whether its process
// is alive, so that looking seldom stands in the way of one that is.
const graceOfRuns = 30 * time.Second

// AbandonDead books the runs of dead processes as abandoned, of whichever
// organization: those that somebody works on are seen to by the next run, those
// that nobody works on any more by this. A run lives as long as its
// organization's lock is held.
func (s *Store) AbandonDead(ctx context.Context) ([]Abandoned, error) {
	const running = `
SELECT DISTINCT organization_id
  FROM polar.sync_runs
 WHERE status = 'running'
   AND (started_at < now() - $1::interval OR started_at > now())`
	rows, err := s.pool.Query(ctx, running, graceOfRuns)
	if err != nil {
		return nil, fmt.Errorf("look for runs of dead processes: %w", err)
	}
	ids, err := pgx.CollectRows(rows, pgx.RowTo[uuid.UUID])
	if err != nil {
		return nil, fmt.Errorf("look for runs of dead processes: %w", err)
	}
	var all []Abandoned
	var errs []error
	for _, id := range ids {
		dead, err := s.abandonDeadOf(ctx, id)
		all = append(all, dead...)
		if err != nil {
			errs = append(errs, fmt.Errorf("abandon runs of organization %s: %w", id, err))
		}
	}
	return all, errors.Join(errs...)
}

func (s *Store) abandonDeadOf(ctx context.Context, organization uuid.UUID) (dead []Abandoned, err error) {
	err = pgx.BeginFunc(ctx, s.pool, func(tx pgx.Tx) error {
		var dying bool
		if err := tx.QueryRow(ctx, `SELECT pg_try_advisory_xact_lock($1)`, lockKey(organization)).Scan(&dying); err != nil || !dying {
			return err
		}
		rows, err := tx.Query(ctx, abandonSQL, organization, []int64{})
		if err != nil {
			return err
		}
		dead, err = pgx.CollectRows(rows, scanAbandoned)
		return err
	})
	return dead, err
}
