package store

import (
	"context"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"

	"polarmirror/internal/polar"
)

// saveCustomerMetersSQL compares the block with what is stored, row by row
// through the primary key whatever the planner estimates the table's size to be,
// so that unchanged rows are not even locked. Which of the others are written is
// decided after ON CONFLICT, where the row is locked: a webhook may have committed
// since the comparison, so that part of it is repeated. The history is written
// from what was written, with a time later than any other of that row, so that
// its order is the order of the writes.
//
// A deletion or change dated later than now counts as older than the request,
// unless it is unknown when the request began.
const saveCustomerMetersSQL = `
WITH incoming AS MATERIALIZED (
    SELECT
        i.id,
        i.customer_id,
        i.meter_id,
        i.credited_units,
        i.created_at,
        i.modified_at,
        i.consumed_units::numeric AS consumed_units,
        i.balance::numeric AS balance,
        i.extra::jsonb AS extra
    FROM unnest(
        $1::uuid[],
        $2::uuid[],
        $3::uuid[],
        $4::bigint[],
        $5::timestamptz[],
        $6::timestamptz[],
        $7::text[],
        $8::text[],
        $9::text[]
    ) AS i (
        id,
        customer_id,
        meter_id,
        credited_units,
        created_at,
        modified_at,
        consumed_units,
        balance,
        extra
    )
),
compared AS MATERIALIZED (
    SELECT
        i.id,
        i.customer_id,
        i.meter_id,
        i.credited_units,
        i.created_at,
        i.modified_at,
        i.consumed_units,
        i.balance,
        i.extra,
        coalesce(i.modified_at, i.created_at) < coalesce(m.modified_at, m.created_at) AS older,
        m.id IS NULL OR m.deleted_at IS NOT NULL OR m.out_of_scope_at IS NOT NULL AS not_live,
        m.id IS NULL
        OR m.deleted_at IS NOT NULL
        OR m.out_of_scope_at IS NOT NULL
        OR (m.customer_id, m.meter_id, m.credited_units, m.created_at, m.modified_at, m.consumed_units, m.balance, m.extra)
           IS DISTINCT FROM
           (i.customer_id, i.meter_id, i.credited_units, i.created_at, i.modified_at, i.consumed_units, i.balance, i.extra) AS differs
    FROM incoming i
    LEFT JOIN LATERAL (
        SELECT
            s.id,
            s.customer_id,
            s.meter_id,
            s.credited_units,
            s.created_at,
            s.modified_at,
            s.deleted_at,
            s.out_of_scope_at,
            s.consumed_units,
            s.balance,
            s.extra
        FROM polar.customer_meters s
        WHERE s.id = i.id
        LIMIT 1
    ) m ON true
),
written AS (
    INSERT INTO polar.customer_meters AS m (
        id,
        organization_id,
        customer_id,
        meter_id,
        credited_units,
        created_at,
        modified_at,
        first_seen_at,
        last_changed_at,
        consumed_units,
        balance,
        extra
    )
    SELECT
        c.id,
        $10::uuid,
        c.customer_id,
        c.meter_id,
        c.credited_units,
        c.created_at,
        c.modified_at,
        c.seen_at,
        c.seen_at,
        c.consumed_units,
        c.balance,
        c.extra
    FROM (
        SELECT
            w.id,
            w.customer_id,
            w.meter_id,
            w.credited_units,
            w.created_at,
            w.modified_at,
            w.consumed_units,
            w.balance,
            w.extra,
            clock_timestamp() AS seen_at
        FROM compared w
        WHERE w.differs
        ORDER BY w.id
    ) c
    ON CONFLICT (id) DO UPDATE SET
        customer_id = excluded.customer_id,
        meter_id = excluded.meter_id,
        credited_units = excluded.credited_units,
        created_at = excluded.created_at,
        modified_at = excluded.modified_at,
        last_changed_at = greatest(clock_timestamp(), m.last_changed_at + interval '1 microsecond'),
        deleted_at = NULL,
        out_of_scope_at = NULL,
        consumed_units = excluded.consumed_units,
        balance = excluded.balance,
        extra = excluded.extra
    WHERE (m.deleted_at IS NULL OR m.deleted_at < $12::timestamptz OR m.deleted_at > clock_timestamp() AND $12::timestamptz > '-infinity')
      AND (($13::boolean AND (m.last_changed_at < $12::timestamptz OR m.last_changed_at > clock_timestamp()))
           OR coalesce(excluded.modified_at, excluded.created_at) >= coalesce(m.modified_at, m.created_at))
      AND ((m.customer_id, m.meter_id, m.credited_units, m.created_at, m.modified_at, m.consumed_units, m.balance, m.extra)
           IS DISTINCT FROM
           (excluded.customer_id, excluded.meter_id, excluded.credited_units, excluded.created_at, excluded.modified_at, excluded.consumed_units, excluded.balance, excluded.extra)
           OR m.deleted_at IS NOT NULL
           OR m.out_of_scope_at IS NOT NULL)
    RETURNING
        m.id,
        m.customer_id,
        m.credited_units,
        m.modified_at,
        m.first_seen_at,
        m.last_changed_at,
        m.consumed_units,
        m.balance
),
logged AS (
    INSERT INTO polar.customer_meter_history (
        customer_meter_id,
        organization_id,
        credited_units,
        modified_at,
        observed_at,
        deleted,
        consumed_units,
        balance,
        source
    )
    SELECT
        w.id,
        $10::uuid,
        w.credited_units,
        w.modified_at,
        w.last_changed_at,
        false,
        w.consumed_units,
        w.balance,
        $11::text
    FROM written w
)
SELECT
    (SELECT count(*) FROM written w WHERE w.first_seen_at = w.last_changed_at),
    (SELECT count(*) FROM written w WHERE w.first_seen_at <> w.last_changed_at),
    ARRAY(SELECT o.id FROM compared o WHERE o.older AND NOT $13::boolean),
    ARRAY(SELECT n.customer_id FROM compared n WHERE n.not_live),
    ARRAY(SELECT w.customer_id FROM written w)`

// queueCustomerMeters writes rows that are not known to be stored already, and
// adds what it did to saved.
func (w *Writer) queueCustomerMeters(batch *pgx.Batch, run *Run, rows []*polar.CustomerMeter, requestedAt pgtype.Timestamptz, force bool, saved *Saved) {
	if len(rows) == 0 {
		return
	}
	sortByID(rows, customerMeterID)
	batch.Queue(saveCustomerMetersSQL,
		column(rows, func(m *polar.CustomerMeter) pgtype.UUID { return id(m.ID) }),
		column(rows, func(m *polar.CustomerMeter) pgtype.UUID { return id(m.CustomerID) }),
		column(rows, func(m *polar.CustomerMeter) pgtype.UUID { return id(m.MeterID) }),
		column(rows, func(m *polar.CustomerMeter) int64 { return m.CreditedUnits }),
		column(rows, func(m *polar.CustomerMeter) pgtype.Timestamptz { return timestamp(m.CreatedAt) }),
		column(rows, func(m *polar.CustomerMeter) pgtype.Timestamptz { return timestamp(m.ModifiedAt) }),
		column(rows, func(m *polar.CustomerMeter) string { return m.ConsumedUnits.String() }),
		column(rows, func(m *polar.CustomerMeter) string { return m.Balance.String() }),
		column(rows, func(m *polar.CustomerMeter) []byte { return m.Extra }),
		w.organization,
		string(run.Kind),
		requestedAt,
		force,
	).QueryRow(func(row pgx.Row) error {
		var inserted, updated int64
		var older, added, changed []uuid.UUID
		if err := row.Scan(&inserted, &updated, &older, &added, &changed); err != nil {
			return err
		}
		saved.Counts.RowsInserted += inserted
		saved.Counts.RowsUpdated += updated
		saved.Counts.RowsUnchanged += int64(len(rows)) - inserted - updated
		saved.Older = append(saved.Older, older...)
		saved.NewCustomers = append(saved.NewCustomers, added...)
		saved.Changed = append(saved.Changed[:len(saved.Changed):len(saved.Changed)], changed...)
		return nil
	})
}

// minCopiedRows is how many new rows a block must have for them to be copied: with
// fewer, the additional round trips cost more than they save.
const minCopiedRows = 200

var customerMeterColumns = []string{
	"id",
	"organization_id",
	"customer_id",
	"meter_id",
	"credited_units",
	"created_at",
	"modified_at",
	"first_seen_at",
	"last_changed_at",
	"consumed_units",
	"balance",
	"extra",
}

var historyColumns = []string{
	"customer_meter_id",
	"organization_id",
	"credited_units",
	"modified_at",
	"observed_at",
	"deleted",
	"consumed_units",
	"balance",
	"source",
}

// copyRows writes the new rows of a block, and what they refer to, by COPY, which
// costs Postgres about half as much as an INSERT that looks for each of them
// first. COPY fails on a key that exists after all, because a webhook brought the
// row or because the mirror has it outside the region.
func (w *Writer) copyRows(ctx context.Context, tx pgx.Tx, run *Run, c *comparison, b *Block) error {
	added, changed := splitStored(c.customers.wanted)
	if err := w.copyCustomers(ctx, tx, added); err != nil {
		return err
	}
	batch := &pgx.Batch{}
	w.queueCustomers(batch, changed, c.requestedAt, b.Force, b.Rewrite)
	w.queueMeters(batch, c.meters.wanted, c.requestedAt, b.Force, b.Rewrite)
	if err := tx.SendBatch(ctx, batch).Close(); err != nil {
		return err
	}
	_, err := tx.CopyFrom(ctx, pgx.Identifier{Schema, "customer_meters"}, customerMeterColumns,
		pgx.CopyFromSlice(len(c.newRows), func(i int) ([]any, error) {
			m := c.newRows[i]
			return []any{
				id(m.ID),
				id(w.organization),
				id(m.CustomerID),
				id(m.MeterID),
				m.CreditedUnits,
				timestamp(m.CreatedAt),
				timestamp(m.ModifiedAt),
				c.comparedAt,
				c.comparedAt,
				numeric(m.ConsumedUnits),
				numeric(m.Balance),
				[]byte(m.Extra),
			}, nil
		}))
	if err != nil {
		return err
	}
	_, err = tx.CopyFrom(ctx, pgx.Identifier{Schema, "customer_meter_history"}, historyColumns,
		pgx.CopyFromSlice(len(c.newRows), func(i int) ([]any, error) {
			m := c.newRows[i]
			return []any{
				id(m.ID),
				id(w.organization),
				m.CreditedUnits,
				timestamp(m.ModifiedAt),
				c.comparedAt,
				false,
				numeric(m.ConsumedUnits),
				numeric(m.Balance),
				string(run.Kind),
			}, nil
		}))
	return err
}

// withoutCopy reports whether a block that failed with err may succeed without
// COPY: a key exists already; or a webhook and the block wait for each other, as
// new customers are copied before others are updated, whatever their ids; or the
// tables have row-level security that binds even their owner, where Postgres has
// no COPY (source: PostgreSQL documentation, "COPY").
func withoutCopy(err error) bool {
	state := sqlState(err)
	return state == uniqueViolation || state == deadlock || state == featureNotSupported
}
