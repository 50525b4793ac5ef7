package store

import (
	"bytes"
	"context"
	"slices"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"

	"polarmirror/internal/polar"
)

// saveCustomerMetersSQL writes customer meters in the order of the arrays, which is
// that of their ids. Which of them are written is decided after ON CONFLICT, where
// the row is locked: a webhook may have committed since the comparison.
//
// A deletion or change dated later than now counts as older than the request,
// unless it is unknown when the request began.
const saveCustomerMetersSQL = `
WITH written AS (
    INSERT INTO polar.customer_meters AS m (
        organization_id,
        id,
        customer_id,
        meter_id,
        credited_units,
        created_at,
        modified_at,
        consumed_units,
        balance,
        extra,
        first_seen_at,
        last_changed_at
    )
    SELECT
        $1::uuid,
        unnest($5::uuid[]),
        unnest($6::uuid[]),
        unnest($7::uuid[]),
        unnest($8::bigint[]),
        unnest($9::timestamptz[]),
        unnest($10::timestamptz[]),
        unnest($11::numeric[]),
        unnest($12::numeric[]),
        unnest($13::jsonb[]),
        now(),
        now()
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
    WHERE (m.deleted_at IS NULL OR m.deleted_at < $3::timestamptz OR m.deleted_at > clock_timestamp() AND $3::timestamptz > '-infinity')
      AND (($4::boolean AND (m.last_changed_at < $3::timestamptz OR m.last_changed_at > clock_timestamp()))
           OR coalesce(excluded.modified_at, excluded.created_at) >= coalesce(m.modified_at, m.created_at))
      AND ((m.customer_id, m.meter_id, m.credited_units, m.created_at, m.modified_at, m.consumed_units, m.balance, m.extra)
           IS DISTINCT FROM
           (excluded.customer_id, excluded.meter_id, excluded.credited_units, excluded.created_at, excluded.modified_at, excluded.consumed_units, excluded.balance, excluded.extra)
           OR m.deleted_at IS NOT NULL
           OR m.out_of_scope_at IS NOT NULL)` + logSQL + `
SELECT
    (SELECT count(*) FROM written w WHERE w.first_seen_at = w.last_changed_at),
    ARRAY(SELECT w.customer_id FROM written w)`

// logSQL ends a statement that writes customer meters, and writes the history from
// what was written: with a time later than any other of that row, so that its order
// is the order of the writes.
const logSQL = `
    RETURNING
        m.id,
        m.customer_id,
        m.credited_units,
        m.modified_at,
        m.first_seen_at,
        m.last_changed_at,
        m.deleted_at,
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
        $1::uuid,
        w.credited_units,
        w.modified_at,
        w.last_changed_at,
        w.deleted_at IS NOT NULL,
        w.consumed_units,
        w.balance,
        $2::text
    FROM written w
)`

// customerMeterColumns are those of saveCustomerMetersSQL, but for the first,
// which comes after the others.
var customerMeterColumns = []string{
	"id",
	"customer_id",
	"meter_id",
	"credited_units",
	"created_at",
	"modified_at",
	"consumed_units",
	"balance",
	"extra",
	"organization_id",
	"first_seen_at",
	"last_changed_at",
}

func customerMeterValues(m *polar.CustomerMeter) []any {
	return append(make([]any, 0, len(customerMeterColumns)), // with room for the rest
		id(m.ID),
		id(m.CustomerID),
		id(m.MeterID),
		m.CreditedUnits,
		timestamp(m.CreatedAt),
		timestamp(m.ModifiedAt),
		numeric(m.ConsumedUnits),
		numeric(m.Balance),
		[]byte(m.Extra),
	)
}

// queueCustomerMeters writes rows that are not known to be stored already, and
// adds what it did to saved.
func (w *Writer) queueCustomerMeters(batch *pgx.Batch, kind Kind, rows []*polar.CustomerMeter, requestedAt pgtype.Timestamptz, b *Block, saved *Saved) {
	if len(rows) == 0 {
		return
	}
	slices.SortFunc(rows, func(a, b *polar.CustomerMeter) int { return bytes.Compare(a.ID[:], b.ID[:]) })
	args := append([]any{w.organization, kind, requestedAt, b.Force}, transposed(column(rows, customerMeterValues))...)
	batch.Queue(saveCustomerMetersSQL, args...).QueryRow(func(row pgx.Row) error {
		var inserted int64
		var changed []uuid.UUID
		if err := row.Scan(&inserted, &changed); err != nil {
			return err
		}
		saved.Counts.RowsInserted += inserted
		saved.Counts.RowsUpdated += int64(len(changed)) - inserted
		saved.Counts.RowsUnchanged += int64(len(rows) - len(changed))
		saved.Changed = append(saved.Changed, changed...)
		return nil
	})
}

// minCopiedRows is how many new rows a block must have for them to be copied: with
// fewer, the additional round trips cost more than they save.
const minCopiedRows = 200

// copyRows writes the new rows of a block, and the customers that are new, by COPY,
// which costs Postgres about half as much as an INSERT that looks for each of them
// first, a quarter less log, and this process a third of its memory. COPY fails on a key
// that exists after all, because a webhook brought the row or because the mirror has it
// outside the region.
func (w *Writer) copyRows(ctx context.Context, tx pgx.Tx, run *Run, c *comparison, b *Block) error {
	var added, changed []nested
	for _, n := range c.customers {
		if n.stored {
			changed = append(changed, n)
		} else {
			added = append(added, n)
		}
	}
	_, err := tx.CopyFrom(ctx, pgx.Identifier{Schema, "customers"}, customerColumns,
		pgx.CopyFromSlice(len(added), func(i int) ([]any, error) {
			return append(added[i].values(), id(w.organization)), nil
		}))
	if err != nil {
		return err
	}
	batch := &pgx.Batch{}
	w.queueNested(batch, saveCustomersSQL, changed, c.requestedAt, b)
	w.queueNested(batch, saveMetersSQL, c.meters, c.requestedAt, b)
	if err := tx.SendBatch(ctx, batch).Close(); err != nil {
		return err
	}
	_, err = tx.CopyFrom(ctx, pgx.Identifier{Schema, "customer_meters"}, customerMeterColumns,
		pgx.CopyFromSlice(len(c.newRows), func(i int) ([]any, error) {
			return append(customerMeterValues(c.newRows[i]), id(w.organization), c.comparedAt, c.comparedAt), nil
		}))
	if err != nil {
		return err
	}
	return copyHistory(ctx, tx, w.organization, run.Kind, column(c.newRows, func(m *polar.CustomerMeter) PastState {
		return PastState{m.ID, c.comparedAt, m.ModifiedAt, m.ConsumedUnits, m.CreditedUnits, m.Balance}
	}))
}

// A PastState is what a customer meter was from a time on.
type PastState struct {
	CustomerMeterID uuid.UUID
	SeenAt          time.Time
	ModifiedAt      time.Time // zero for null
	ConsumedUnits   polar.Decimal
	CreditedUnits   int64
	Balance         polar.Decimal
}

// copyHistory adds states to the history by COPY.
func copyHistory(ctx context.Context, db interface {
	CopyFrom(context.Context, pgx.Identifier, []string, pgx.CopyFromSource) (int64, error)
}, organization uuid.UUID, source Kind, states []PastState) error {
	columns := []string{
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
	_, err := db.CopyFrom(ctx, pgx.Identifier{Schema, "customer_meter_history"}, columns,
		pgx.CopyFromSlice(len(states), func(i int) ([]any, error) {
			s := &states[i]
			return []any{
				id(s.CustomerMeterID),
				id(organization),
				s.CreditedUnits,
				timestamp(s.ModifiedAt),
				s.SeenAt,
				false,
				numeric(s.ConsumedUnits),
				numeric(s.Balance),
				source,
			}, nil
		}))
	return err
}
