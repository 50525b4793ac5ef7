package store

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
)

// A FullRun is how one organization's full run went.
type FullRun struct {
	ID           int64
	Organization string // label
	Status       string // running, succeeded, failed or abandoned
	Counts       Counts
	Exact        *bool         // nil while it runs
	Duration     time.Duration // until now while it runs
	LiveRows     int64         // of the organization, now
}

// NewestRun returns the number of the newest run of any organization that the
// next backfill will not count as its own, 0 if there has been none: runs of a
// backfill that was cut short, and will be gone on with, belong to it.
func (s *Store) NewestRun(ctx context.Context) (int64, error) {
	const sql = `
SELECT coalesce(max(r.id), 0)
  FROM polar.sync_runs r
 WHERE r.started_at > now()
    OR r.started_at < coalesce(
       (SELECT b.started_at
          FROM polar.backfills b
         WHERE b.id = (SELECT max(l.id) FROM polar.backfills l)
           AND b.finished_at IS NULL
           AND b.started_at > now() - $1::interval
           AND b.started_at <= now()),
       'infinity')`
	var id int64
	if err := s.pool.QueryRow(ctx, sql, cursorLifetime).Scan(&id); err != nil {
		return 0, fmt.Errorf("read newest run: %w", err)
	}
	return id, nil
}

// FullRunsSince returns each organization's newest full run among those with a
// number above newest, by the organizations' labels.
func (s *Store) FullRunsSince(ctx context.Context, newest int64) ([]FullRun, error) {
	const sql = `
SELECT DISTINCT ON (s.organization, s.organization_id)
    r.id,
    s.organization,
    r.status,
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
    greatest(coalesce(r.finished_at, clock_timestamp()) - r.started_at, interval '0'),
    s.live_rows
  FROM polar.sync_runs r
  JOIN polar.sync_status s ON s.organization_id = r.organization_id
 WHERE r.kind = 'full'
   AND r.id > $1
 ORDER BY s.organization, s.organization_id, r.id DESC`
	rows, err := s.pool.Query(ctx, sql, newest)
	if err != nil {
		return nil, fmt.Errorf("read full runs: %w", err)
	}
	list, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (FullRun, error) {
		var r FullRun
		c := &r.Counts
		err := row.Scan(&r.ID, &r.Organization, &r.Status, &c.Requests, &c.Pages, &c.RowsSeen, &c.RowsInserted,
			&c.RowsUpdated, &c.RowsUnchanged, &c.RowsDeleted, &c.RowsRejected, &c.Retries, &c.RateLimited,
			&r.Exact, &r.Duration, &r.LiveRows)
		return r, err
	})
	if err != nil {
		return nil, fmt.Errorf("read full runs: %w", err)
	}
	return list, nil
}

// A Result is what a query gave, as psql would show it.
type Result struct {
	Columns []string
	Rows    [][]string // NULL is ""
}

// Query answers one SELECT in a transaction that cannot write. It is for showing
// people a query and its result; values keep Postgres's own text form.
func (s *Store) Query(ctx context.Context, sql string) (*Result, error) {
	result := &Result{}
	read := func(tx pgx.Tx) error {
		// The simple protocol answers in text.
		rows, err := tx.Query(ctx, sql, pgx.QueryExecModeSimpleProtocol)
		if err != nil {
			return err
		}
		defer rows.Close()
		for _, f := range rows.FieldDescriptions() {
			result.Columns = append(result.Columns, f.Name)
		}
		for rows.Next() {
			var row []string
			for _, v := range rows.RawValues() {
				row = append(row, string(v))
			}
			result.Rows = append(result.Rows, row)
		}
		return rows.Err()
	}
	if err := pgx.BeginTxFunc(ctx, s.pool, pgx.TxOptions{AccessMode: pgx.ReadOnly}, read); err != nil {
		return nil, fmt.Errorf("run query: %w", err)
	}
	return result, nil
}
