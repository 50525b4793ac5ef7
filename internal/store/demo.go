package store

import (
	"context"
	"fmt"
	"slices"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// AddSimulatedPast writes into an organization's history what its rows were before
// they were mirrored, with the source "simulated". Only the demo can know that and
// calls this: from Polar nobody learns the past. It asks for nothing and writes
// nothing if there is a history already.
func (s *Store) AddSimulatedPast(ctx context.Context, organization uuid.UUID, past func() ([]PastState, error)) error {
	const exists = `SELECT EXISTS (SELECT FROM polar.customer_meter_history WHERE organization_id = $1)`
	if there, err := value[bool](ctx, s.pool, "look for a history", exists, organization); err != nil || there {
		return err
	}
	states, err := past()
	if err != nil || len(states) == 0 {
		return err
	}
	// In the order in which syncd would have written them: see the index on observed_at.
	slices.SortFunc(states, func(a, b PastState) int { return a.SeenAt.Compare(b.SeenAt) })
	if err := s.ensurePartitions(ctx, states[0].SeenAt, states[len(states)-1].SeenAt); err != nil {
		return err
	}
	if err := copyHistory(ctx, s.pool, organization, "simulated", states); err != nil {
		return fmt.Errorf("write the simulated past: %w", err)
	}
	// Nobody waits for autovacuum in a demo, and without statistics a view on so many
	// new rows may take minutes.
	return exec(ctx, s.pool, "analyze the simulated past", `ANALYZE polar.customer_meter_history`)
}

// A Result is the result of a query, as psql would show it.
type Result struct {
	Columns []string
	Rows    [][]any // texts; NULL is ""
}

// Query runs one SELECT, to show people a query and its result. Values keep
// Postgres's own text form.
func (s *Store) Query(ctx context.Context, sql string) (*Result, error) {
	rows, _ := s.pool.Query(ctx, sql, pgx.QueryExecModeSimpleProtocol) // which answers in text
	result := &Result{Columns: column(rows.FieldDescriptions(), func(f pgconn.FieldDescription) string { return f.Name })}
	var err error
	result.Rows, err = pgx.CollectRows(rows, func(row pgx.CollectableRow) ([]any, error) {
		return column(row.RawValues(), func(b []byte) any { return string(b) }), nil
	})
	if err != nil {
		return nil, fmt.Errorf("run query: %w", err)
	}
	return result, nil
}
