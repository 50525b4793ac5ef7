package store

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"
)

// A FullRun is how one organization's full run went.
type FullRun struct {
	RunRecord
	LiveRows int64 // of the organization, now
}

// BackfillRuns returns each organization's newest full run among those that began
// since the last backfill did, by the organizations' labels.
func (s *Store) BackfillRuns(ctx context.Context) ([]FullRun, error) {
	const sql = `
SELECT DISTINCT ON (o.name, o.id)` + runColumns + `,
    s.live_rows
  FROM polar.sync_runs r
  JOIN polar.organizations o ON o.id = r.organization_id
  JOIN polar.sync_status s ON s.organization_id = o.id
 WHERE r.kind = 'full'
   AND r.started_at >= (SELECT b.started_at FROM polar.backfills b ORDER BY b.id DESC LIMIT 1)
 ORDER BY o.name, o.id, r.id DESC`
	return collect(ctx, s.pool, "read full runs", pgx.RowToStructByPos[FullRun], sql)
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
