package store

import (
	"context"
	"fmt"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5"
)

// A View is one snapshot of the database for people to look at. Its methods
// write nothing and agree with each other.
type View struct{ tx pgx.Tx }

// View calls use with a snapshot. A statement that takes longer than limit is
// ended by the server: one left to run on would burden the mirror long after
// whoever asked has gone.
func (s *Store) View(ctx context.Context, limit time.Duration, use func(*View) error) error {
	const bounds = `
SELECT
    set_config('statement_timeout', $1, true),
    set_config('jit', 'off', true)`
	opts := pgx.TxOptions{IsoLevel: pgx.RepeatableRead, AccessMode: pgx.ReadOnly}
	return pgx.BeginTxFunc(ctx, s.pool, opts, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, bounds, strconv.FormatInt(max(limit.Milliseconds(), 1), 10)); err != nil {
			return fmt.Errorf("bound statements: %w", err)
		}
		return use(&View{tx: tx})
	})
}

// collect runs a query and scans its rows.
func collect[T any](ctx context.Context, v *View, what, sql string, scan func(pgx.CollectableRow) (T, error), args ...any) ([]T, error) {
	rows, err := v.tx.Query(ctx, sql, args...)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", what, err)
	}
	list, err := pgx.CollectRows(rows, scan)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", what, err)
	}
	return list, nil
}

// fill copies what is not null, in UTC.
func fill(to *time.Time, from *time.Time) {
	if from != nil {
		*to = from.UTC()
	}
}
