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
	Counts
	Exact    *bool         // nil while it runs
	Duration time.Duration // until now while it runs
	LiveRows int64         // of the organization, now
}

// NewestRun returns the number of the newest run of any organization that does not
// belong to the next backfill, 0 if there is none: the runs of an interrupted
// backfill belong to the one that will resume it.
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
    r.status,` + countColumns + `,
    r.exact,
    greatest(coalesce(r.finished_at, clock_timestamp()) - r.started_at, interval '0'),
    s.live_rows
  FROM polar.sync_runs r
  JOIN polar.sync_status s ON s.organization_id = r.organization_id
 WHERE r.kind = 'full'
   AND r.id > $1
 ORDER BY s.organization, s.organization_id, r.id DESC`
	return collect(ctx, s.pool, "read full runs", pgx.RowToStructByPos[FullRun], sql, newest)
}

// A Result is the result of a query, as psql would show it.
type Result struct {
	Columns []string
	Rows    [][]any // texts; NULL is ""
}

// Query runs one SELECT in a transaction that cannot write, to show people a query
// and its result. Values keep Postgres's own text form.
func (s *Store) Query(ctx context.Context, sql string) (*Result, error) {
	result := &Result{}
	read := func(tx pgx.Tx) error {
		// The simple protocol answers in text.
		rows, err := tx.Query(ctx, sql, pgx.QueryExecModeSimpleProtocol)
		if err != nil {
			return err
		}
		for _, f := range rows.FieldDescriptions() {
			result.Columns = append(result.Columns, f.Name)
		}
		result.Rows, err = pgx.CollectRows(rows, func(row pgx.CollectableRow) ([]any, error) {
			return column(row.RawValues(), func(b []byte) any { return string(b) }), nil
		})
		return err
	}
	if err := pgx.BeginTxFunc(ctx, s.pool, pgx.TxOptions{AccessMode: pgx.ReadOnly}, read); err != nil {
		return nil, fmt.Errorf("run query: %w", err)
	}
	return result, nil
}
