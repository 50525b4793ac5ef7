package store

import (
	"github.com/google/uuid"

	"polarmirror/internal/polar"
)

// saveMetersSQL works as saveCustomersSQL does.
const saveMetersSQL = `
INSERT INTO polar.meters AS t (
    organization_id,
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
SELECT
    $1::uuid,
    unnest($5::uuid[]),
    unnest($6::timestamptz[]),
    unnest($7::timestamptz[]),
    unnest($8::timestamptz[]),
    unnest($9::bytea[]),
    unnest($10::text[]),
    unnest($11::text[]),
    unnest($12::jsonb[]),
    unnest($13::jsonb[]),
    unnest($14::jsonb[]),
    unnest($15::jsonb[])
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
WHERE ($4::boolean OR t.digest <> excluded.digest)
  AND (($3::boolean AND (t.last_changed_at < $2::timestamptz OR t.last_changed_at > clock_timestamp()))
       OR coalesce(excluded.modified_at, excluded.created_at) >= coalesce(t.modified_at, t.created_at))`

// nestedMeters are the newest states of meters, in the order of their ids.
func nestedMeters(all []*polar.Meter) []nested {
	meters := newest(all, func(t *polar.Meter) uuid.UUID { return t.ID }, (*polar.Meter).ChangedAt)
	return column(meters, func(t *polar.Meter) nested {
		n := nested{id: t.ID, digest: digest(t.Raw), changedAt: t.ChangedAt()}
		n.values = func() []any {
			return []any{
				id(t.ID),
				timestamp(t.CreatedAt),
				timestamp(t.ModifiedAt),
				timestamp(t.ArchivedAt),
				n.digest,
				t.Name,
				unlessEmpty(t.Unit),
				[]byte(t.Aggregation),
				[]byte(t.Filter),
				[]byte(t.Metadata),
				[]byte(t.Raw),
			}
		}
		return n
	})
}
