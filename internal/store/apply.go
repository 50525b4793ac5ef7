package store

import (
	"context"
	"fmt"

	"github.com/google/uuid"
)

// Apply writes customer meters that Polar told of unasked, in one transaction.
// It needs no session: what is newer wins, here and in a session's blocks, so
// the order in which the two write does not matter. The block has neither a
// stretch nor a cursor, and is not forced.
func (s *Store) Apply(ctx context.Context, organization uuid.UUID, b *Block) (Saved, error) {
	conn, err := s.pool.Acquire(ctx)
	if err != nil {
		return Saved{}, fmt.Errorf("connect to database: %w", err)
	}
	defer conn.Release()
	b.Stretch, b.Cursor, b.Force = nil, nil, false
	unlocked := &Session{conn: conn, organization: organization}
	return unlocked.SaveBlock(ctx, &Run{Kind: Webhook}, b)
}
