package store

import "github.com/jackc/pgx/v5"

// saveRejectedSQL stores one row per rejected text, however many walks read it.
const saveRejectedSQL = `
INSERT INTO polar.rejected_rows AS r (
    organization_id,
    run_id,
    seen_at,
    page,
    customer_meter_id,
    created_at,
    customer_id,
    meter_id,
    digest,
    reason,
    raw
)
SELECT
    $1::uuid,
    $2::bigint,
    now(),
    unnest($3::bigint[]),
    unnest($4::uuid[]),
    unnest($5::timestamptz[]),
    unnest($6::uuid[]),
    unnest($7::uuid[]),
    unnest($8::bytea[]),
    unnest($9::text[]),
    unnest($10::text[])
ON CONFLICT ON CONSTRAINT rejected_rows_digest_key DO UPDATE SET
    run_id = excluded.run_id,
    page = excluded.page,
    seen_at = excluded.seen_at,
    reason = excluded.reason
WHERE r.seen_at < now() - interval '1 day'
   OR r.seen_at > now()
   OR r.reason <> excluded.reason`

func (w *Writer) queueRejected(batch *pgx.Batch, run *Run, rejected []RejectedRow) {
	known := make(map[string]bool, len(rejected))
	var rows [][]any
	for _, r := range rejected {
		// Pages overlap. Where the text is not kept, the reason tells rows apart.
		d := digest(r.Raw)
		if r.Raw == nil {
			d = digest([]byte(r.Reason))
		}
		if known[string(d)] {
			continue
		}
		known[string(d)] = true
		rows = append(rows, []any{
			r.Offset,
			id(r.ID),
			timestamp(r.Key.CreatedAt),
			id(r.Key.CustomerID),
			id(r.Key.MeterID),
			d,
			storable(r.Reason, maxText),
			storable(string(r.Raw), maxRaw),
		})
	}
	if len(rows) > 0 {
		batch.Queue(saveRejectedSQL, append([]any{w.organization, run.ID}, transposed(rows)...)...)
	}
}
