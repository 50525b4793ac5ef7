package store

import (
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"polarmirror/internal/polar"
)

// saveMetersSQL works as saveCustomersSQL does.
const saveMetersSQL = `
WITH incoming AS MATERIALIZED (
    SELECT
        i.id,
        i.created_at,
        i.modified_at,
        i.archived_at,
        i.digest,
        i.name,
        i.unit,
        i.aggregation,
        i.filter,
        i.metadata,
        i.raw
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
),
compared AS MATERIALIZED (
    SELECT
        i.id,
        i.created_at,
        i.modified_at,
        i.archived_at,
        i.digest,
        i.name,
        i.unit,
        i.aggregation,
        i.filter,
        i.metadata,
        i.raw,
        m.id IS NULL AS missing,
        $14::boolean OR m.digest IS DISTINCT FROM i.digest AS differs,
        coalesce(i.modified_at, i.created_at) < coalesce(m.modified_at, m.created_at) AS older
    FROM incoming i
    LEFT JOIN LATERAL (
        SELECT
            s.id,
            s.created_at,
            s.modified_at,
            s.digest
        FROM polar.meters s
        WHERE s.id = i.id
        LIMIT 1
    ) m ON true
),
written AS (
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
    FROM compared i
    WHERE i.missing
       OR (i.differs AND ($13::boolean OR NOT i.older))
    ORDER BY i.id
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
      AND ($13::boolean OR coalesce(excluded.modified_at, excluded.created_at) >= coalesce(t.modified_at, t.created_at))
)
SELECT ARRAY(SELECT o.id FROM compared o WHERE o.older AND o.differs AND NOT $13::boolean)`

func (s *Session) queueMeters(batch *pgx.Batch, b *Block, meters nested[polar.Meter], saved *Saved) {
	rows := meters.rows
	if len(rows) == 0 {
		return
	}
	batch.Queue(saveMetersSQL,
		uuids(rows, func(t *polar.Meter) uuid.UUID { return t.ID }),
		times(rows, func(t *polar.Meter) time.Time { return t.CreatedAt }),
		times(rows, func(t *polar.Meter) time.Time { return t.ModifiedAt }),
		times(rows, func(t *polar.Meter) time.Time { return t.ArchivedAt }),
		blobs(meters.digests, sameBytes),
		texts(rows, func(t *polar.Meter) string { return t.Name }),
		optionalTexts(rows, func(t *polar.Meter) *string { return unlessEmpty(t.Unit) }),
		jsons(rows, func(t *polar.Meter) []byte { return t.Aggregation }),
		jsons(rows, func(t *polar.Meter) []byte { return t.Filter }),
		jsons(rows, func(t *polar.Meter) []byte { return t.Metadata }),
		jsons(rows, func(t *polar.Meter) []byte { return t.Raw }),
		s.organization,
		b.Force,
		b.Rewrite,
	).QueryRow(func(row pgx.Row) error {
		return older(row, saved, b, func(m *polar.CustomerMeter) uuid.UUID { return m.MeterID })
	})
}
