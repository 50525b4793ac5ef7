package store

import (
	"context"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"polarmirror/internal/polar"
)

// Rehearse writes a row to each table as runs and webhooks do and reads it back, in
// a transaction that it rolls back: whatever would stop a run, such as a trigger or
// a missing right, stops it here. The schema must be migrated. Only numbers of
// runs are used up.
func (s *Store) Rehearse(ctx context.Context) error {
	return s.withConn(ctx, func(conn *pgxpool.Conn) error {
		session := &Session{Writer: Writer{conn: conn, organization: uuid.New()}, pool: s.pool, open: []int64{}}
		tx, err := conn.Begin(ctx)
		if err != nil {
			return fmt.Errorf("begin rehearsal: %w", err)
		}
		defer rollBack(ctx, tx)
		return session.rehearse(ctx, tx)
	})
}

// rehearse omits whatever begins or ends a transaction of its own.
func (s *Session) rehearse(ctx context.Context, tx pgx.Tx) error {
	now := time.Now().UTC().Truncate(time.Microsecond)
	const text = "Zoë 李 \\ ' \" \U0001F600"
	for _, write := range []struct {
		table, sql string
		args       []any
	}{
		{"organizations", `INSERT INTO polar.organizations (id, name) VALUES ($1, $2)`, []any{s.organization, text}},
		{"tick_floors", moveFloorSQL, []any{s.organization, now, false, nil}},
		{"walk_suspects", `INSERT INTO polar.walk_suspects (organization_id, customer_meter_id, meter_id) VALUES ($1, $1, $1)`, []any{s.organization}},
		{"notifications", `INSERT INTO polar.notifications (organization_id, sent_at) VALUES ($1, $2)`, []any{s.organization, now}},
		{"excluded_fields", `INSERT INTO polar.excluded_fields (field) VALUES ($1)`, []any{text}},
		{"backfills", `INSERT INTO polar.backfills (started_at) VALUES ($1)`, []any{now}},
		{"webhook_events", saveDeliverySQL, []any{s.organization, s.organization, now, text, text, string(DeliveryPending), nil, []byte(text)}},
	} {
		if err := exec(ctx, s.conn, "write a row of polar."+write.table, write.sql, write.args...); err != nil {
			return err
		}
	}
	run, err := s.StartRun(ctx, Full, now)
	if err != nil {
		return fmt.Errorf("write a row of polar.sync_runs: %w", err)
	}
	consumed, err := polar.ParseDecimal("12345678901234567890.123456789012345678")
	if err != nil {
		return err
	}
	name := text
	m := &polar.CustomerMeter{
		ID: uuid.New(), CustomerID: uuid.New(), MeterID: uuid.New(),
		ConsumedUnits: consumed, CreditedUnits: 1<<53 + 1, Balance: consumed,
		CreatedAt: now, ModifiedAt: now, Extra: []byte(`{"a": 1.10}`),
	}
	m.Customer = &polar.Customer{ID: m.CustomerID, OrganizationID: s.organization, Type: "individual", Name: &name, CreatedAt: now, Metadata: []byte(`{}`), Raw: []byte(`{}`)}
	m.Meter = &polar.Meter{ID: m.MeterID, OrganizationID: s.organization, Name: name, CreatedAt: now, Metadata: []byte(`{}`), Raw: []byte(`{}`)}
	block := &Block{
		CustomerMeters: []*polar.CustomerMeter{m},
		Rejected:       []RejectedRow{{RejectedRow: polar.RejectedRow{ID: m.ID, Raw: []byte(text), Reason: text}}},
		Cursor:         &Cursor{BeganAt: now, Low: m.Key(), Fingerprint: text},
		Counts:         Counts{Requests: 1},
	}
	c, err := s.compare(ctx, block)
	if err == nil {
		_, err = s.write(ctx, tx, run, block, c, insertNewRows)
	}
	if err != nil {
		return fmt.Errorf("write a block: %w", err)
	}
	const missing = `
SELECT coalesce(string_agg('polar.' || t.name, ', '), '')
  FROM (VALUES
    ('organizations', EXISTS (SELECT FROM polar.organizations WHERE id = $1 AND name = $5)),
    ('customers', EXISTS (SELECT FROM polar.customers WHERE organization_id = $1 AND name = $5)),
    ('meters', EXISTS (SELECT FROM polar.meters WHERE organization_id = $1 AND name = $5)),
    ('customer_meters', EXISTS (SELECT FROM polar.customer_meters WHERE id = $2 AND consumed_units::text = $4 AND extra->>'a' = '1.10')),
    ('customer_meter_history', EXISTS (SELECT FROM polar.customer_meter_history WHERE customer_meter_id = $2 AND consumed_units::text = $4)),
    ('sync_runs', EXISTS (SELECT FROM polar.sync_runs WHERE organization_id = $1 AND requests = 1)),
    ('walk_cursors', EXISTS (SELECT FROM polar.walk_cursors WHERE organization_id = $1 AND fingerprint = $5)),
    ('walk_suspects', EXISTS (SELECT FROM polar.walk_suspects WHERE organization_id = $1)),
    ('tick_floors', EXISTS (SELECT FROM polar.tick_floors WHERE organization_id = $1 AND floor_at = $3)),
    ('rejected_rows', EXISTS (SELECT FROM polar.rejected_rows WHERE organization_id = $1 AND raw = $5)),
    ('notifications', EXISTS (SELECT FROM polar.notifications WHERE organization_id = $1 AND sent_at = $3)),
    ('excluded_fields', EXISTS (SELECT FROM polar.excluded_fields WHERE field = $5)),
    ('backfills', EXISTS (SELECT FROM polar.backfills WHERE started_at = $3)),
    ('webhook_events', EXISTS (SELECT FROM polar.webhook_events WHERE organization_id = $1 AND convert_from(payload, 'UTF8') = $5))
  ) AS t (name, there)
 WHERE NOT t.there`
	lost, err := value[string](ctx, s.conn, "read rows back", missing, s.organization, m.ID, now, consumed.String(), text)
	if err == nil && lost != "" {
		return fmt.Errorf("rows are not read back as they were written: %s", lost)
	}
	return err
}
