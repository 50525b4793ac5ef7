package store

import (
	"context"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgxpool"
)

// Apply writes customer meters that Polar told of unasked, in one transaction.
// It needs no session: what is newer wins, here and in a session's blocks, so
// the order in which the two write does not matter. The block has neither a
// stretch nor a cursor, and is not forced; and it revives nothing, since it may
// have been on its way for long.
func (s *Store) Apply(ctx context.Context, organization uuid.UUID, b *Block) (Saved, error) {
	b.Stretch, b.Cursor, b.Force = nil, nil, false
	b.Began = time.Time{}
	var saved Saved
	err := s.withConn(ctx, func(conn *pgxpool.Conn) (err error) {
		unlocked := &Session{conn: conn, organization: organization}
		saved, err = unlocked.SaveBlock(ctx, &Run{Kind: Webhook}, b)
		return err
	})
	return saved, err
}
