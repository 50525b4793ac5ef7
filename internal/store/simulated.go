package store

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"polarmirror/internal/polar"
)

// A PastState is what a customer meter was from a time on.
type PastState struct {
	CustomerMeterID uuid.UUID
	SeenAt          time.Time
	ModifiedAt      time.Time // zero for null
	ConsumedUnits   polar.Decimal
	CreditedUnits   int64
	Balance         polar.Decimal
}

// AddSimulatedPast writes into an organization's history what its rows were before
// they were mirrored, with the source "simulated". Only the demo can know that and
// calls this: from Polar nobody learns the past. It asks for nothing and writes
// nothing if there is a history already.
func (s *Store) AddSimulatedPast(ctx context.Context, organization uuid.UUID, past func() ([]PastState, error)) error {
	const exists = `SELECT EXISTS (SELECT FROM polar.customer_meter_history WHERE organization_id = $1)`
	var there bool
	if err := s.pool.QueryRow(ctx, exists, organization).Scan(&there); err != nil || there {
		return err
	}
	states, err := past()
	if err != nil || len(states) == 0 {
		return err
	}
	// In the order in which syncd would have written them: see the index on observed_at.
	slices.SortFunc(states, func(a, b PastState) int { return a.SeenAt.Compare(b.SeenAt) })
	first := states[0].SeenAt.UTC()
	for month := time.Date(first.Year(), first.Month(), 1, 0, 0, 0, 0, time.UTC); month.Before(states[len(states)-1].SeenAt); month = month.AddDate(0, 1, 0) {
		if err := s.ensurePartition(ctx, month); err != nil {
			return err
		}
	}
	_, err = s.pool.CopyFrom(ctx, pgx.Identifier{Schema, "customer_meter_history"}, historyColumns,
		pgx.CopyFromSlice(len(states), func(i int) ([]any, error) {
			p := &states[i]
			return []any{
				id(p.CustomerMeterID),
				id(organization),
				p.CreditedUnits,
				timestamp(p.ModifiedAt),
				p.SeenAt,
				false,
				numeric(p.ConsumedUnits),
				numeric(p.Balance),
				"simulated",
			}, nil
		}))
	if err != nil {
		return fmt.Errorf("write the simulated past: %w", err)
	}
	return nil
}
