package store

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/google/uuid"
)

// NotifyChannel is the channel on which listeners are notified of changes.
const NotifyChannel = "polar_customer_meters"

// A Notification says what has changed since the last one about the
// organization. Its JSON is what listeners get.
type Notification struct {
	Organization   string    `json:"organization"` // label
	OrganizationID uuid.UUID `json:"organization_id"`
	RunID          int64     `json:"run_id,omitempty"` // the last run among those that made the changes; 0 if none did
	Kind           Kind      `json:"kind"`             // of the last change
	RowsInserted   int64     `json:"rows_inserted"`
	RowsUpdated    int64     `json:"rows_updated"`
	RowsDeleted    int64     `json:"rows_deleted"`

	// CustomerIDs are the customers whose customer meters changed, MaxNotified at
	// most, and MoreCustomers says that there are others.
	CustomerIDs   []uuid.UUID `json:"customer_ids"`
	MoreCustomers bool        `json:"more_customers"`
}

// MaxNotified is how many customers a notification names at most. With them it stays
// below the 8,000 bytes that Postgres allows (source: PostgreSQL documentation,
// "NOTIFY").
const MaxNotified = 150

// Notify notifies the listeners. Call it after the changes were committed, so that
// a listener who then reads sees them. It reports false, and notifies nobody, if
// any replica sent a notification of the organization within the last second.
func (s *Store) Notify(ctx context.Context, n Notification) (sent bool, err error) {
	payload, err := json.Marshal(n)
	if err != nil {
		return false, fmt.Errorf("encode notification: %w", err)
	}
	const sql = `
WITH turn AS (
    INSERT INTO polar.notifications AS n (organization_id, sent_at)
    VALUES ($1, clock_timestamp())
    ON CONFLICT (organization_id) DO UPDATE SET
        sent_at = excluded.sent_at
     WHERE n.sent_at <= excluded.sent_at - interval '1 second'
        OR n.sent_at > excluded.sent_at + interval '1 second' -- the clock was set back
    RETURNING organization_id
)
SELECT pg_notify($2, $3)
  FROM turn`
	tag, err := s.pool.Exec(ctx, sql, n.OrganizationID, NotifyChannel, string(payload))
	if err != nil {
		return false, fmt.Errorf("notify listeners: %w", err)
	}
	return tag.RowsAffected() == 1, nil
}
