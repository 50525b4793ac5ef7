package store

import (
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"polarmirror/internal/polar"
)

// siftMetersSQL returns those that are not stored just so, by their places in
// the arrays, counted from 1, and which of them are older than what is stored.
const siftMetersSQL = `
SELECT
    i.place,
    m.digest IS NULL,
    coalesce(coalesce(i.modified_at, i.created_at) < coalesce(m.modified_at, m.created_at), false)
  FROM unnest(
           $1::uuid[],
           $2::bytea[],
           $3::timestamptz[],
           $4::timestamptz[]
       ) WITH ORDINALITY AS i (
           id,
           digest,
           created_at,
           modified_at,
           place
       )
  LEFT JOIN LATERAL (
           SELECT
               s.digest,
               s.created_at,
               s.modified_at
             FROM polar.meters s
            WHERE s.id = i.id
            LIMIT 1
       ) m ON true
 WHERE m.digest IS DISTINCT FROM i.digest
 ORDER BY i.place`

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
    raw = excluded.raw
WHERE ($14::boolean OR t.digest <> excluded.digest)
  AND ($13::boolean OR coalesce(excluded.modified_at, excluded.created_at) >= coalesce(t.modified_at, t.created_at))`

func metersKind() nestedKind[polar.Meter] {
	return nestedKind[polar.Meter]{
		siftSQL:    siftMetersSQL,
		of:         func(m *polar.CustomerMeter) *polar.Meter { return m.Meter },
		id:         func(t *polar.Meter) uuid.UUID { return t.ID },
		createdAt:  func(t *polar.Meter) time.Time { return t.CreatedAt },
		modifiedAt: func(t *polar.Meter) time.Time { return t.ModifiedAt },
		changedAt:  (*polar.Meter).ChangedAt,
		raw:        func(t *polar.Meter) []byte { return t.Raw },
	}
}

func (s *Session) queueMeters(batch *pgx.Batch, b *Block, meters *nested[polar.Meter]) {
	rows := meters.rows
	if len(rows) == 0 {
		return
	}
	batch.Queue(saveMetersSQL,
		uuids(rows, func(t *polar.Meter) uuid.UUID { return t.ID }),
		times(rows, func(t *polar.Meter) time.Time { return t.CreatedAt }),
		times(rows, func(t *polar.Meter) time.Time { return t.ModifiedAt }),
		times(rows, func(t *polar.Meter) time.Time { return t.ArchivedAt }),
		blobs(meters.digests, func(d []byte) []byte { return d }),
		texts(rows, func(t *polar.Meter) string { return t.Name }),
		optionalTexts(rows, func(t *polar.Meter) *string { return unlessEmpty(t.Unit) }),
		jsons(rows, func(t *polar.Meter) []byte { return t.Aggregation }),
		jsons(rows, func(t *polar.Meter) []byte { return t.Filter }),
		jsons(rows, func(t *polar.Meter) []byte { return t.Metadata }),
		jsons(rows, func(t *polar.Meter) []byte { return t.Raw }),
		s.organization,
		b.Force,
		b.Rewrite,
	)
}
