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
		if _, err := s.conn.Exec(ctx, write.sql, write.args...); err != nil {
			return fmt.Errorf("write a row of polar.%s: %w", write.table, err)
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
	units := fmt.Sprintf("%s %d %s", m.ConsumedUnits, m.CreditedUnits, m.Balance)
	const ofOrganization = ` WHERE organization_id = $1 AND $2::timestamptz IS NOT NULL`
	for _, read := range []struct{ table, sql, want string }{
		{"organizations", `SELECT name FROM polar.organizations WHERE id = $1 AND $2::timestamptz IS NOT NULL`, text},
		{"customers", `SELECT name FROM polar.customers` + ofOrganization, text},
		{"meters", `SELECT name FROM polar.meters` + ofOrganization, text},
		{"customer_meters", `SELECT concat_ws(' ', consumed_units, credited_units, balance, extra->>'a') FROM polar.customer_meters` + ofOrganization, units + " 1.10"},
		{"customer_meter_history", `SELECT concat_ws(' ', consumed_units, credited_units, balance) FROM polar.customer_meter_history` + ofOrganization, units},
		{"sync_runs", `SELECT concat_ws(' ', kind, status, requests, slot = $2) FROM polar.sync_runs WHERE organization_id = $1`, "full running 1 t"},
		{"walk_cursors", `SELECT fingerprint FROM polar.walk_cursors` + ofOrganization, text},
		{"walk_suspects", `SELECT count(*)::text FROM polar.walk_suspects` + ofOrganization, "1"},
		{"tick_floors", `SELECT (floor_at = $2)::text FROM polar.tick_floors WHERE organization_id = $1`, "true"},
		{"rejected_rows", `SELECT raw FROM polar.rejected_rows` + ofOrganization, text},
		{"notifications", `SELECT (sent_at = $2)::text FROM polar.notifications WHERE organization_id = $1`, "true"},
		{"excluded_fields", `SELECT field FROM polar.excluded_fields WHERE $2::timestamptz IS NOT NULL AND $1::uuid IS NOT NULL AND xmin::text = pg_current_xact_id()::xid::text`, text},
		{"backfills", `SELECT count(*)::text FROM polar.backfills WHERE started_at = $2 AND $1::uuid IS NOT NULL AND xmin::text = pg_current_xact_id()::xid::text`, "1"},
		{"webhook_events", `SELECT convert_from(payload, 'UTF8') FROM polar.webhook_events` + ofOrganization, text},
	} {
		var got string
		if err := s.conn.QueryRow(ctx, read.sql, s.organization, now).Scan(&got); err != nil {
			return fmt.Errorf("read a row of polar.%s back: %w", read.table, err)
		}
		if got != read.want {
			return fmt.Errorf("a row of polar.%s was written with %q and is read back as %q", read.table, read.want, got)
		}
	}
	return nil
}
