package store

import (
	"context"
	"fmt"
	"time"
)

// Maintain makes the partitions of the history ahead of time, drops expired ones,
// and removes expired runs, rejected rows and webhooks. It is cheap when there is
// nothing to do; call it at start and a few times a day.
//
// A history with a default partition is a copy's (docs/scaling.md), whose rows come
// by logical replication: no month needs a partition, and none may be dropped, since
// the states carried forward here would collide with those that the primary sends.
func (s *Store) Maintain(ctx context.Context) error {
	const sql = `
SELECT partdefid <> 0
  FROM pg_catalog.pg_partitioned_table
 WHERE partrelid = 'polar.customer_meter_history'::regclass`
	replicated, err := value[bool](ctx, s.pool, "look at history partitions", sql)
	if err != nil {
		return err
	}
	if !replicated {
		if err := s.ensurePartitions(ctx, time.Time{}, time.Time{}); err != nil {
			return fmt.Errorf("make history partitions: %w", err)
		}
	}
	// The comments on the tables say how long each of their rows is kept.
	const runs = `
DELETE FROM polar.sync_runs r
 WHERE status <> 'running'
   AND (started_at < now() - interval '400 days'
        OR (started_at > now() AND id < (SELECT max(l.id) FROM polar.sync_runs l WHERE l.started_at < now() - interval '400 days'))
        OR (kind = 'incremental'
            AND status = 'succeeded'
            AND rows_inserted + rows_updated + rows_deleted + rows_rejected = 0
            AND started_at < now() - interval '7 days'
            AND EXISTS (SELECT FROM polar.sync_runs l WHERE l.organization_id = r.organization_id AND l.kind = r.kind AND l.status = r.status AND -l.id < -r.id)))`
	// Rows dated by a clock that was ahead are kept as long as if they were new.
	const redateRejected = `
UPDATE polar.rejected_rows
   SET seen_at = now()
 WHERE seen_at > now()`
	const redateWebhooks = `
UPDATE polar.webhook_events
   SET received_at = now()
 WHERE received_at > now()`
	const rejected = `
DELETE FROM polar.rejected_rows
 WHERE seen_at < now() - interval '30 days'`
	const webhooks = `
DELETE FROM polar.webhook_events
 WHERE received_at < now() - interval '30 days'`
	for _, sql := range []string{runs, redateRejected, rejected, redateWebhooks, webhooks} {
		if err := exec(ctx, s.pool, "remove old rows", sql); err != nil {
			return err
		}
	}
	if replicated {
		return nil
	}
	if err := s.dropExpired(ctx); err != nil {
		return fmt.Errorf("drop history older than history.keep: %w", err)
	}
	return nil
}
