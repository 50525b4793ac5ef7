package store

import (
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"
)

// saveRejectedSQL stores one row per rejected text, however many walks read it.
const saveRejectedSQL = `
INSERT INTO polar.rejected_rows AS r (
    organization_id,
    run_id,
    page,
    customer_meter_id,
    created_at,
    customer_id,
    meter_id,
    seen_at,
    digest,
    reason,
    raw
)
SELECT
    $1::uuid,
    $2::bigint,
    i.page,
    i.customer_meter_id,
    i.created_at,
    i.customer_id,
    i.meter_id,
    now(),
    i.digest,
    i.reason,
    i.raw
FROM unnest(
    $3::bigint[],
    $4::uuid[],
    $5::bytea[],
    $6::text[],
    $7::text[],
    $8::timestamptz[],
    $9::uuid[],
    $10::uuid[]
) AS i (
    page,
    customer_meter_id,
    digest,
    reason,
    raw,
    created_at,
    customer_id,
    meter_id
)
ON CONFLICT ON CONSTRAINT rejected_rows_digest_key DO UPDATE SET
    run_id = excluded.run_id,
    page = excluded.page,
    seen_at = excluded.seen_at,
    reason = excluded.reason
WHERE r.seen_at < now() - interval '1 day'
   OR r.seen_at > now()
   OR r.reason <> excluded.reason`

func (w *Writer) queueRejected(batch *pgx.Batch, run *Run, rejected []RejectedRow) {
	rows := distinct(rejected)
	if len(rows) == 0 {
		return
	}
	batch.Queue(saveRejectedSQL,
		w.organization,
		run.ID,
		column(rows, func(r RejectedRow) int64 { return int64(r.Offset) }),
		column(rows, func(r RejectedRow) pgtype.UUID { return id(r.ID) }),
		column(rows, func(r RejectedRow) []byte { return rejectedDigest(r) }),
		column(rows, func(r RejectedRow) string { return storable(r.Reason, maxText) }),
		column(rows, func(r RejectedRow) string { return storable(string(r.Raw), maxRaw) }),
		column(rows, func(r RejectedRow) pgtype.Timestamptz { return timestamp(r.Key.CreatedAt) }),
		column(rows, func(r RejectedRow) pgtype.UUID { return id(r.Key.CustomerID) }),
		column(rows, func(r RejectedRow) pgtype.UUID { return id(r.Key.MeterID) }),
	)
}

// rejectedDigest tells rejected rows apart: by their texts or, where those are not
// kept, by their reasons.
func rejectedDigest(r RejectedRow) []byte {
	if r.Raw == nil {
		return digest([]byte(r.Reason))
	}
	return digest(r.Raw)
}

// distinct omits rows whose text occurred before: pages overlap.
func distinct(rejected []RejectedRow) []RejectedRow {
	var kept []RejectedRow
	known := make(map[string]bool, len(rejected))
	for _, r := range rejected {
		if key := string(rejectedDigest(r)); !known[key] {
			known[key] = true
			kept = append(kept, r)
		}
	}
	return kept
}
