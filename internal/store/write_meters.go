package store

import (
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"

	"polarmirror/internal/polar"
)

// saveMetersSQL works as saveCustomersSQL does.
const saveMetersSQL = `
INSERT INTO polar.meters AS t (
    id,
    organization_id,
    created_at,
    modified_at,
    archived_at,
    digest,
    name,
    unit,
    aggregation,
    filter,
    metadata,
    raw
)
SELECT
    i.id,
    $12::uuid,
    i.created_at,
    i.modified_at,
    i.archived_at,
    i.digest,
    i.name,
    i.unit,
    i.aggregation::jsonb,
    i.filter::jsonb,
    i.metadata::jsonb,
    i.raw::jsonb
FROM unnest(
    $1::uuid[],
    $2::timestamptz[],
    $3::timestamptz[],
    $4::timestamptz[],
    $5::bytea[],
    $6::text[],
    $7::text[],
    $8::text[],
    $9::text[],
    $10::text[],
    $11::text[]
) AS i (
    id,
    created_at,
    modified_at,
    archived_at,
    digest,
    name,
    unit,
    aggregation,
    filter,
    metadata,
    raw
)
ON CONFLICT (id) DO UPDATE SET
    created_at = excluded.created_at,
    modified_at = excluded.modified_at,
    archived_at = excluded.archived_at,
    digest = excluded.digest,
    name = excluded.name,
    unit = excluded.unit,
    aggregation = excluded.aggregation,
    filter = excluded.filter,
    metadata = excluded.metadata,
    raw = excluded.raw,
    last_changed_at = clock_timestamp()
WHERE ($15::boolean OR t.digest <> excluded.digest)
  AND (($14::boolean AND (t.last_changed_at < $13::timestamptz OR t.last_changed_at > clock_timestamp()))
       OR coalesce(excluded.modified_at, excluded.created_at) >= coalesce(t.modified_at, t.created_at))`

func (w *Writer) queueMeters(batch *pgx.Batch, meters []nested[polar.Meter], requestedAt pgtype.Timestamptz, force, rewrite bool) {
	if len(meters) == 0 {
		return
	}
	rows := column(meters, func(n nested[polar.Meter]) *polar.Meter { return n.value })
	batch.Queue(saveMetersSQL,
		column(rows, func(t *polar.Meter) pgtype.UUID { return id(t.ID) }),
		column(rows, func(t *polar.Meter) pgtype.Timestamptz { return timestamp(t.CreatedAt) }),
		column(rows, func(t *polar.Meter) pgtype.Timestamptz { return timestamp(t.ModifiedAt) }),
		column(rows, func(t *polar.Meter) pgtype.Timestamptz { return timestamp(t.ArchivedAt) }),
		column(meters, func(n nested[polar.Meter]) []byte { return n.digest }),
		column(rows, func(t *polar.Meter) string { return t.Name }),
		column(rows, func(t *polar.Meter) *string { return unlessEmpty(t.Unit) }),
		column(rows, func(t *polar.Meter) []byte { return t.Aggregation }),
		column(rows, func(t *polar.Meter) []byte { return t.Filter }),
		column(rows, func(t *polar.Meter) []byte { return t.Metadata }),
		column(rows, func(t *polar.Meter) []byte { return t.Raw }),
		w.organization,
		requestedAt,
		force,
		rewrite,
	)
}
