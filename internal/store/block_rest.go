package store

import (
	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"polarmirror/internal/polar"
)

// suspectsSQL finds the live rows of a stretch that Polar's list lacks. The
// stretch is read in the order of the walk's index, and EXCEPT compares it with
// the block in one pass. Archived meters explain themselves.
const suspectsSQL = `
INSERT INTO polar.walk_suspects (organization_id, customer_meter_id, meter_id)
SELECT
    m.organization_id,
    m.id,
    m.meter_id
FROM (
    SELECT s.id
    FROM polar.customer_meters s
    WHERE s.organization_id = $1
      AND s.deleted_at IS NULL
      AND s.out_of_scope_at IS NULL
      AND (s.created_at, s.customer_id, s.meter_id) >= ($2::timestamptz, $3::uuid, $4::uuid)
      AND (s.created_at, s.customer_id, s.meter_id) <= ($5::timestamptz, $6::uuid, $7::uuid)
    EXCEPT
    SELECT unnest($8::uuid[])
) missing
JOIN polar.customer_meters m ON m.id = missing.id
JOIN polar.meters t ON t.id = m.meter_id
WHERE t.archived_at IS NULL
ORDER BY m.id
ON CONFLICT (organization_id, customer_meter_id) DO NOTHING`

func (s *Session) queueSuspects(batch *pgx.Batch, b *Block, listed []*polar.CustomerMeter) {
	if b.Stretch == nil || b.prepared.comparison.made && b.prepared.comparison.missing == 0 {
		return
	}
	present := column(listed, customerMeterID)
	for _, r := range b.Rejected {
		if r.ID != uuid.Nil {
			present = append(present, r.ID)
		}
	}
	lowAt, highAt := b.Stretch.bounds()
	low, high := b.Stretch.Low, b.Stretch.High
	batch.Queue(suspectsSQL, s.organization, lowAt, low.CustomerID, low.MeterID, highAt, high.CustomerID, high.MeterID, uuids(present, func(u uuid.UUID) uuid.UUID { return u }))
}

// saveRejectedSQL keeps one row per rejected text, however many walks meet it.
const saveRejectedSQL = `
INSERT INTO polar.rejected_rows AS r (
    organization_id,
    run_id,
    page,
    customer_meter_id,
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
    now(),
    i.digest,
    i.reason,
    i.raw
FROM unnest(
    $3::bigint[],
    $4::uuid[],
    $5::bytea[],
    $6::text[],
    $7::text[]
) AS i (
    page,
    customer_meter_id,
    digest,
    reason,
    raw
)
ON CONFLICT ON CONSTRAINT rejected_rows_digest_key DO UPDATE SET
    run_id = excluded.run_id,
    page = excluded.page,
    seen_at = excluded.seen_at,
    reason = excluded.reason
WHERE r.seen_at < now() - interval '1 day'
   OR r.seen_at > now()
   OR r.reason <> excluded.reason`

func (s *Session) queueRejected(batch *pgx.Batch, run *Run, rejected []RejectedRow) {
	rows := distinct(rejected)
	if len(rows) == 0 {
		return
	}
	batch.Queue(saveRejectedSQL,
		s.organization,
		run.ID,
		ints(rows, func(r RejectedRow) int64 { return int64(r.Offset) }),
		uuids(rows, func(r RejectedRow) uuid.UUID { return r.ID }),
		blobs(rows, func(r RejectedRow) []byte { return digest(r.Raw) }),
		texts(rows, func(r RejectedRow) string { return storable(r.Reason, maxText) }),
		texts(rows, func(r RejectedRow) string { return storable(string(r.Raw), maxRaw) }),
	)
}

// distinct leaves out rows whose text has been there before: pages overlap.
func distinct(rejected []RejectedRow) []RejectedRow {
	var kept []RejectedRow
	known := make(map[string]bool, len(rejected))
	for _, r := range rejected {
		if key := string(digest(r.Raw)); !known[key] {
			known[key] = true
			kept = append(kept, r)
		}
	}
	return kept
}
