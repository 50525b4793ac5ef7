package store

import (
	"context"
	"fmt"
	"slices"

	"github.com/google/uuid"
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
	if _, err := s.pool.Exec(ctx, `ANALYZE polar.customer_meter_history`); err != nil {
		return fmt.Errorf("analyze the simulated past: %w", err)
	}
	return nil
}
