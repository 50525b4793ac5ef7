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

// The versions of Postgres that syncd supports.
const (
	OldestPostgres = 14
	NewestPostgres = 18
)

// An Inspection is what a database is like, before syncd changes anything in it.
type Inspection struct {
	Version      string // such as 15.18
	Major        int
	Role         string
	ReadOnly     bool // a standby, or set to accept no writes
	SchemaExists bool
	MayCreate    bool              // the role may create schema polar
	MayMigrate   bool              // the role may create objects in schema polar and owns the existing ones
	Pending      int               `db:"-"` // migrations not applied yet, if the role may apply them
	Limits       []ConnectionLimit `db:"-"`
}

// A ConnectionLimit is how many connections something leaves to syncd.
type ConnectionLimit struct {
	Left int
	Of   string // what grants them, such as the role
	Cure string // what raises the limit
}

// limitsSQL finds what limits the number of connections: the server, the role and
// the database. Connections that syncd has already are free to it; they are those
// with its application_name and its role, as it does not see that name of others'.
// Limits of roles and databases do not apply to superusers.
const limitsSQL = `
SELECT
    l.most - l.used + (
        SELECT count(*)::int
          FROM pg_catalog.pg_stat_activity
         WHERE usename = session_user
           AND application_name = current_setting('application_name')),
    l.of,
    l.cure
  FROM pg_catalog.pg_roles r
  JOIN pg_catalog.pg_database d ON d.datname = current_database()
 CROSS JOIN LATERAL (VALUES
    (
        current_setting('max_connections')::int - CASE
            WHEN r.rolsuper THEN 0
            ELSE current_setting('superuser_reserved_connections')::int + coalesce(current_setting('reserved_connections', true)::int, 0)
        END,
        (SELECT sum(numbackends)::int FROM pg_catalog.pg_stat_database),
        'the server',
        'raise the server''s max_connections'
    ),
    (
        CASE WHEN NOT r.rolsuper THEN r.rolconnlimit END,
        (SELECT count(*)::int FROM pg_catalog.pg_stat_activity WHERE usename = session_user),
        'the role',
        format('let an administrator run ALTER ROLE %I CONNECTION LIMIT -1', session_user)
    ),
    (
        CASE WHEN NOT r.rolsuper THEN d.datconnlimit END,
        (SELECT numbackends FROM pg_catalog.pg_stat_database WHERE datid = d.oid),
        'the database',
        format('let an administrator run ALTER DATABASE %I CONNECTION LIMIT -1', current_database())
    )
  ) AS l (most, used, of, cure)
 WHERE r.rolname = session_user
   AND l.most >= 0`

// Inspect looks at the database without changing it. An error is a
// [*SchemaError] if the schema is too new for this binary.
func (s *Store) Inspect(ctx context.Context) (*Inspection, error) {
	const sql = `
SELECT
    current_setting('server_version'),
    current_setting('server_version_num')::int / 10000,
    current_user::text,
    pg_is_in_recovery() OR current_setting('transaction_read_only')::boolean,
    n.oid IS NOT NULL,
    has_database_privilege(current_database(), 'CREATE'),
    n.oid IS NOT NULL
        AND has_schema_privilege(n.oid, 'CREATE')
        AND NOT EXISTS (
            SELECT
              FROM pg_catalog.pg_class c
             WHERE c.relnamespace = n.oid
               AND c.relkind IN ('r', 'p', 'v')
               AND NOT pg_has_role(c.relowner, 'USAGE'))
  FROM (VALUES (1)) AS one (row)
  LEFT JOIN pg_catalog.pg_namespace n ON n.nspname = 'polar'`
	list, err := collect(ctx, s.pool, "inspect database", pgx.RowToAddrOfStructByPos[Inspection], sql, pgx.QueryExecModeExec)
	if err != nil {
		return nil, err
	}
	in := list[0]
	in.Limits, err = collect(ctx, s.pool, "inspect limits of connections", pgx.RowToStructByPos[ConnectionLimit], limitsSQL)
	if err != nil || in.SchemaExists && !in.MayMigrate {
		return in, err
	}
	if err := s.checkCompatible(ctx); err != nil {
		return nil, err
	}
	in.Pending, err = s.pending(ctx)
	return in, err
}

// Rehearse writes a row to each table as runs and webhooks do and reads it back, in
// a transaction that it rolls back: whatever would stop a run, such as a trigger or
// a missing right, stops it here. The schema must be migrated. Only numbers of
// runs are used up. It omits whatever begins or ends a transaction of its own.
func (s *Store) Rehearse(ctx context.Context) error {
	return s.withConn(ctx, func(conn *pgxpool.Conn) error {
		tx, err := conn.Begin(ctx)
		if err != nil {
			return fmt.Errorf("begin rehearsal: %w", err)
		}
		defer rollBack(ctx, tx)
		session := &Session{Writer: Writer{conn: conn, organization: uuid.New()}, open: []int64{}}
		return session.rehearse(ctx, tx)
	})
}

func (s *Session) rehearse(ctx context.Context, tx pgx.Tx) error {
	now := time.Now().UTC().Truncate(time.Microsecond)
	const text = "Zoë 李 \\ ' \" \U0001F600"
	rows := &pgx.Batch{}
	rows.Queue(`INSERT INTO polar.organizations (id, name) VALUES ($1, $2)`, s.organization, text)
	rows.Queue(moveFloorSQL, s.organization, now, false, nil)
	rows.Queue(`INSERT INTO polar.suspects (organization_id, customer_meter_id, meter_id) VALUES ($1, $1, $1)`, s.organization)
	rows.Queue(`INSERT INTO polar.notifications (organization_id, sent_at) VALUES ($1, $2)`, s.organization, now)
	rows.Queue(`INSERT INTO polar.excluded_fields (field) VALUES ($1)`, text)
	rows.Queue(`INSERT INTO polar.backfills (started_at) VALUES ($1)`, now)
	rows.Queue(saveDeliverySQL, s.organization, s.organization, now, text, text, DeliveryPending, nil, []byte(text))
	if err := tx.SendBatch(ctx, rows).Close(); err != nil {
		return fmt.Errorf("write a row of each table: %w", err)
	}
	run, err := s.StartRun(ctx, Full, now)
	if err != nil {
		return err
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
		Cursor:         &Cursor{Low: m.Key(), Fingerprint: text},
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
    ('cursors', EXISTS (SELECT FROM polar.cursors WHERE organization_id = $1 AND fingerprint = $5)),
    ('suspects', EXISTS (SELECT FROM polar.suspects WHERE organization_id = $1)),
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

// Serviceable reports whether the database can be reached, has every migration of
// this binary, and would now store a webhook's delivery; nil if so. It uses one
// connection of the pool and leaves no row behind. Errors are [ErrReadOnly], a
// [*SchemaError], or those of the server or the connection; see [Cause].
func (s *Store) Serviceable(ctx context.Context) error {
	if err := s.Ready(ctx); err != nil {
		return err
	}
	pending, err := s.pending(ctx)
	if err != nil {
		return err
	}
	if pending > 0 {
		return &SchemaError{Problem: fmt.Sprintf("it lacks %d of this syncd's migrations; run syncd migrate up", pending)}
	}
	return s.probeWrite(ctx)
}

// Statements of probeWrite, in one transaction.
const (
	// probeSpaceSQL makes the next statement write its temporary file where the
	// database's tables are, however little it holds.
	probeSpaceSQL = `SELECT set_config('work_mem', '64kB', true), set_config('temp_tablespaces', '', true)`

	probeWriteSQL = `
WITH blocks AS MATERIALIZED (
    SELECT repeat('x', 8000) AS block
      FROM generate_series(1, 20)
),
delivery AS (
    INSERT INTO polar.webhook_events (organization_id)
    SELECT NULL::uuid
     WHERE false
)
SELECT
    sum(length(block)),
    pg_logical_emit_message(true, 'syncd', 'ready')
  FROM blocks`
)

// probeWrite does what storing a delivery takes, and stores none: it needs the
// right and the lock to write deliveries, space for new blocks, and a commit that
// waits for the log.
//
// On a full disk, updating a row succeeds as long as the row's own block has room,
// and a table that grew with each probe would have to be shrunk. So the space is
// that of a temporary file of 160 kB, which is gone when the statement ends, and
// what is committed is a message in the log, of 61 bytes.
func (s *Store) probeWrite(ctx context.Context) error {
	batch := &pgx.Batch{}
	batch.Queue(waitForDiskSQL)
	batch.Queue(probeSpaceSQL)
	batch.Queue(probeWriteSQL)
	if err := s.pool.send(ctx, batch); err != nil {
		return fmt.Errorf("try to write to database: %w", cured(err))
	}
	return nil
}
