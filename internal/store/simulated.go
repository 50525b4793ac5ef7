package store

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/google/uuid"
)

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
	if err := copyHistory(ctx, s.pool, organization, "simulated", states); err != nil {
		return fmt.Errorf("write the simulated past: %w", err)
	}
	return nil
}
