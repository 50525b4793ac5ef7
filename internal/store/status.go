package store

import (
	"context"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
)

// A Status is how current one organization's mirror is: a row of the view
// polar.sync_status. Times are zero where there is nothing to tell.
type Status struct {
	OrganizationID         uuid.UUID
	Organization           string
	LiveRows               int64
	LastFullStarted        time.Time
	LastFullFinished       time.Time
	LastFullExact          *bool
	LastIncrementalStarted time.Time
	LastIncrementalEnded   time.Time
	Lag                    *time.Duration // nil if no run ever succeeded
	Running                string         // kind of the run under way; "" if there is none
	RunningSince           time.Time
	LastError              string // "" if the last run succeeded
	LastErrorAt            time.Time
}

// LastSuccess is the end of the last successful run of any kind.
func (s *Status) LastSuccess() time.Time {
	if s.LastIncrementalEnded.After(s.LastFullFinished) {
		return s.LastIncrementalEnded
	}
	return s.LastFullFinished
}

// Status returns the state of every organization in the database, by name. Of
// two with one name, as a changed id leaves them, the one mirrored last comes last.
func (s *Store) Status(ctx context.Context) ([]Status, error) {
	const sql = `
SELECT
    organization_id,
    organization,
    live_rows,
    last_full_started_at,
    last_full_finished_at,
    last_full_exact,
    last_incremental_started_at,
    last_incremental_finished_at,
    lag,
    coalesce(running, ''),
    running_since,
    coalesce(last_error, ''),
    last_error_at
  FROM polar.sync_status
 ORDER BY
    organization,
    greatest(last_full_finished_at, last_incremental_finished_at) NULLS FIRST,
    organization_id`
	rows, err := s.pool.Query(ctx, sql)
	if err != nil {
		return nil, statusError(err)
	}
	list, err := pgx.CollectRows(rows, scanStatus)
	if err != nil {
		return nil, statusError(err)
	}
	return list, nil
}

func statusError(err error) error {
	if state := sqlState(err); state == "42P01" || state == "3F000" {
		return &SchemaError{Problem: "nothing has been mirrored here yet; run syncd, or syncd migrate up"}
	}
	return fmt.Errorf("read status: %w", err)
}

func scanStatus(row pgx.CollectableRow) (Status, error) {
	var st Status
	var fullStarted, fullFinished, incStarted, incEnded, since, errorAt *time.Time
	err := row.Scan(&st.OrganizationID, &st.Organization, &st.LiveRows, &fullStarted, &fullFinished, &st.LastFullExact,
		&incStarted, &incEnded, &st.Lag, &st.Running, &since, &st.LastError, &errorAt)
	for _, t := range []struct {
		to   *time.Time
		from *time.Time
	}{
		{&st.LastFullStarted, fullStarted},
		{&st.LastFullFinished, fullFinished},
		{&st.LastIncrementalStarted, incStarted},
		{&st.LastIncrementalEnded, incEnded},
		{&st.RunningSince, since},
		{&st.LastErrorAt, errorAt},
	} {
		if t.from != nil {
			*t.to = t.from.UTC()
		}
	}
	return st, err
}
