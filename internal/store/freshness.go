package store

import (
	"context"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
)

// An Organization is one that is asked about.
type Organization struct {
	Name string    // label
	ID   uuid.UUID // zero: the one of that label that was mirrored last
}

// A Freshness is how old one organization's data is. Times are by the
// database's clock, and zero where there was no such run.
type Freshness struct {
	OrganizationID uuid.UUID // zero if the database does not know the organization
	Organization   string    // label, as asked for

	// Age is the time since the start of the last successful run, which is the
	// oldest moment that the data may be from; nil if no run ever succeeded. It
	// is the lag of polar.sync_status.
	Age             *time.Duration
	LastFull        Span  // the last successful full run
	LastExact       *bool // whether that run proved that it saw every customer meter; nil if there was none
	LastIncremental Span  // the last successful incremental run

	// Failing says that a run failed and none has succeeded since that makes up
	// for it: one of its kind, or a full one.
	Failing bool
}

// A Span is when a run began and ended.
type Span struct{ Started, Finished time.Time }

// LastSuccess is the end of the last successful run of any kind; zero if there
// was none.
func (f *Freshness) LastSuccess() time.Time {
	if f.LastIncremental.Finished.After(f.LastFull.Finished) {
		return f.LastIncremental.Finished
	}
	return f.LastFull.Finished
}

// Freshness returns how old the data of each of the organizations is, in their
// order. Unlike [Store.Status] it counts no rows: its cost does not grow with
// them, so that probes may ask for it at any time.
func (s *Store) Freshness(ctx context.Context, organizations []Organization) ([]Freshness, error) {
	const sql = `
SELECT DISTINCT ON (asked.place)
    o.id,
    asked.name,
    now() - greatest(last_full.started_at, last_incremental.started_at),
    last_full.started_at,
    last_full.finished_at,
    last_full.exact,
    last_incremental.started_at,
    last_incremental.finished_at,
    EXISTS (
        SELECT
          FROM polar.sync_runs r
         WHERE r.organization_id = o.id
           AND r.kind = 'full'
           AND r.status = 'failed'
           AND r.started_at > coalesce(last_full.started_at, '-infinity'))
    OR EXISTS (
        SELECT
          FROM polar.sync_runs r
         WHERE r.organization_id = o.id
           AND r.kind = 'incremental'
           AND r.status = 'failed'
           AND r.started_at > coalesce(greatest(last_full.started_at, last_incremental.started_at), '-infinity'))
  FROM unnest($1::text[], $2::uuid[]) WITH ORDINALITY AS asked (name, id, place)
  LEFT JOIN LATERAL (
    SELECT by_id.id
      FROM polar.organizations by_id
     WHERE by_id.id = asked.id
    UNION ALL
    SELECT by_name.id
      FROM polar.organizations by_name
     WHERE asked.id IS NULL
       AND by_name.name = asked.name
  ) o ON true
  LEFT JOIN LATERAL (
    SELECT
        r.started_at,
        r.finished_at,
        r.exact
      FROM polar.sync_runs r
     WHERE r.organization_id = o.id
       AND r.kind = 'full'
       AND r.status = 'succeeded'
     ORDER BY r.started_at DESC
     LIMIT 1
  ) last_full ON true
  LEFT JOIN LATERAL (
    SELECT
        r.started_at,
        r.finished_at
      FROM polar.sync_runs r
     WHERE r.organization_id = o.id
       AND r.kind = 'incremental'
       AND r.status = 'succeeded'
     ORDER BY r.started_at DESC
     LIMIT 1
  ) last_incremental ON true
 ORDER BY asked.place, greatest(last_full.started_at, last_incremental.started_at) DESC NULLS LAST`
	names, ids := columnsOf(organizations)
	rows, err := s.pool.Query(ctx, sql, names, ids)
	if err != nil {
		return nil, statusError(err)
	}
	list, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (Freshness, error) {
		var f Freshness
		var id uuid.NullUUID
		var fullStarted, fullFinished, incStarted, incFinished *time.Time
		err := row.Scan(&id, &f.Organization, &f.Age, &fullStarted, &fullFinished, &f.LastExact,
			&incStarted, &incFinished, &f.Failing)
		f.OrganizationID = id.UUID
		f.LastFull = span(fullStarted, fullFinished)
		f.LastIncremental = span(incStarted, incFinished)
		return f, err
	})
	if err != nil {
		return nil, statusError(err)
	}
	return list, nil
}

func span(started, finished *time.Time) Span {
	if started == nil || finished == nil {
		return Span{}
	}
	return Span{Started: started.UTC(), Finished: finished.UTC()}
}

// columnsOf are the labels and the ids, null for those to be found by label.
func columnsOf(organizations []Organization) (names []string, ids []uuid.NullUUID) {
	names, ids = make([]string, len(organizations)), make([]uuid.NullUUID, len(organizations))
	for i, o := range organizations {
		names[i], ids[i] = o.Name, uuid.NullUUID{UUID: o.ID, Valid: o.ID != uuid.Nil}
	}
	return names, ids
}

// A Size is how many rows of one organization there are of each sort.
type Size struct {
	Organization string // label, as asked for
	LiveRows     int64  // customer meters that Polar has and the filter lets in
	Suspects     int64  // of them, those that the walk under way has not found
	RejectedRows int64  // rows from Polar that could not be mirrored, of the last 30 days
}

// Sizes counts the rows of each of the organizations, in their order. It reads
// the whole table of customer meters once, whatever the number of
// organizations: ask seldom.
func (s *Store) Sizes(ctx context.Context, organizations []Organization) ([]Size, error) {
	const sql = `
SELECT DISTINCT ON (asked.place)
    asked.name,
    coalesce(live.n, 0),
    coalesce(suspects.n, 0),
    coalesce(rejected.n, 0)
  FROM unnest($1::text[], $2::uuid[]) WITH ORDINALITY AS asked (name, id, place)
  LEFT JOIN LATERAL (
    SELECT by_id.id
      FROM polar.organizations by_id
     WHERE by_id.id = asked.id
    UNION ALL
    SELECT by_name.id
      FROM polar.organizations by_name
     WHERE asked.id IS NULL
       AND by_name.name = asked.name
  ) o ON true
  LEFT JOIN (
    SELECT
        m.organization_id,
        count(*) AS n
      FROM polar.customer_meters m
     WHERE m.deleted_at IS NULL
       AND m.out_of_scope_at IS NULL
     GROUP BY m.organization_id
  ) live ON live.organization_id = o.id
  LEFT JOIN (
    SELECT
        w.organization_id,
        count(*) AS n
      FROM polar.walk_suspects w
     GROUP BY w.organization_id
  ) suspects ON suspects.organization_id = o.id
  LEFT JOIN (
    SELECT
        j.organization_id,
        count(*) AS n
      FROM polar.rejected_rows j
     GROUP BY j.organization_id
  ) rejected ON rejected.organization_id = o.id
 ORDER BY asked.place, live.n DESC NULLS LAST`
	names, ids := columnsOf(organizations)
	rows, err := s.pool.Query(ctx, sql, names, ids)
	if err != nil {
		return nil, fmt.Errorf("count rows: %w", err)
	}
	list, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (Size, error) {
		var z Size
		err := row.Scan(&z.Organization, &z.LiveRows, &z.Suspects, &z.RejectedRows)
		return z, err
	})
	if err != nil {
		return nil, fmt.Errorf("count rows: %w", err)
	}
	return list, nil
}
