package store

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgxpool"
)

const (
	// lockNamespace keeps the locks of organizations apart from those of other
	// programs in the database ("syncd" in ASCII).
	lockNamespace = 0x73796e6364
	// partitionLock serialises making and dropping partitions.
	partitionLock = lockNamespace<<8 | 1
	// dropLock lets one replica at a time drop partitions.
	dropLock = lockNamespace<<8 | 2
	// lockPoll is how often a waiting Acquire tries the lock again. Unlike a
	// statement that waits for the lock, this holds no snapshot in between.
	lockPoll = 500 * time.Millisecond
	// releaseTimeout bounds the release of a lock; after it the connection is
	// closed, which releases the lock as well.
	releaseTimeout = 3 * time.Second
)

// A Session is the right to write one organization's rows: a connection that
// holds the organization's advisory lock. It is not safe for concurrent use.
type Session struct {
	Writer
	pool *pool       // for the end of a run whose connection is lost
	open []int64     // runs started and not finished: at most a walk and a tick between its blocks
	dead []RunRecord // runs of dead processes
}

func lockKey(organization uuid.UUID) int64 {
	high := binary.BigEndian.Uint64(organization[:8])
	low := binary.BigEndian.Uint64(organization[8:])
	return int64(high ^ low ^ lockNamespace)
}

// Acquire acquires the organization's lock. If another session holds it, Acquire
// waits until ctx ends when wait is set, and returns [ErrBusy] otherwise.
func (s *Store) Acquire(ctx context.Context, organization uuid.UUID, wait bool) (*Session, error) {
	for {
		session, err := s.AcquireSlot(ctx, organization, "", time.Time{})
		if !errors.Is(err, ErrBusy) || !wait {
			return session, err
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(lockPoll):
		}
	}
}

// AcquireSlot acquires the organization's lock for a run of kind that answers
// slot. It returns [ErrSlotTaken] if there is such a run (a full one only if it
// succeeded), without trying the lock, and [ErrBusy] if another session holds it.
// Either costs one round trip, as many replicas may ask about one slot.
//
// The session avoids plans that suit a small or unanalyzed table but are ruinous for
// a large one: this connection reads the tables by index. And it lets blocks commit
// without waiting for the disk or a standby: if the server crashes, the last of them
// are lost together with the cursor that says they were saved, and are read again.
// The end of a run waits; see FinishRun.
func (s *Store) AcquireSlot(ctx context.Context, organization uuid.UUID, kind Kind, slot time.Time) (*Session, error) {
	conn, err := s.pool.Acquire(ctx)
	if err != nil {
		return nil, fmt.Errorf("connect to database: %w", err)
	}
	const sql = `
WITH run AS MATERIALIZED (
    SELECT EXISTS (
        SELECT
          FROM polar.sync_runs r
         WHERE r.organization_id = $1
           AND r.kind = $2
           AND r.slot = $3::timestamptz
           AND ` + answersSQL + `
    ) AS taken
)
SELECT
    taken,
    CASE WHEN taken THEN false ELSE pg_try_advisory_lock($4) END
  FROM run`
	const settings = `
SET enable_seqscan = off;
SET enable_hashjoin = off;
SET enable_mergejoin = off;
SET jit = off;
SET synchronous_commit = off`
	var taken, held bool
	err = conn.QueryRow(ctx, sql, organization, kind, timestamp(slot), lockKey(organization)).Scan(&taken, &held)
	if err == nil && held {
		_, err = conn.Exec(ctx, settings)
	}
	switch {
	case err != nil:
		cut(conn)
		return nil, fmt.Errorf("acquire organization's lock: %w", err)
	case held:
		return &Session{Writer: Writer{conn: conn, organization: organization}, pool: s.pool, open: []int64{}}, nil
	}
	conn.Release() // its settings are unchanged
	if taken {
		return nil, ErrSlotTaken
	}
	return nil, ErrBusy
}

// Release releases the lock. A connection in an unknown state is closed instead
// of reused, which releases the lock as well. Releasing twice does nothing.
func (s *Session) Release() {
	conn := s.conn
	if conn == nil {
		return
	}
	s.conn = nil
	ctx, cancel := context.WithTimeout(context.Background(), releaseTimeout)
	defer cancel()
	const reset = `
SELECT pg_advisory_unlock_all();
RESET enable_seqscan;
RESET enable_hashjoin;
RESET enable_mergejoin;
RESET jit;
RESET synchronous_commit`
	if _, err := conn.Exec(ctx, reset); err != nil {
		cut(conn)
		return
	}
	conn.Release()
}

// cut closes the connection and removes it from the pool.
func cut(conn *pgxpool.Conn) {
	ctx, cancel := context.WithTimeout(context.Background(), releaseTimeout)
	defer cancel()
	raw := conn.Hijack()
	_ = raw.Close(ctx) // either way the connection is no longer used
}
