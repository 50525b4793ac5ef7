package store

import (
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"

	"polarmirror/internal/polar"
)

// A nested is a customer or a meter as it is nested in customer meters.
type nested struct {
	id        uuid.UUID
	digest    []byte // of its JSON
	changedAt time.Time
	values    func() []any // of its columns
	stored    bool         // the mirror has it, in another state
}

// queueNested writes customers or meters.
func (w *Writer) queueNested(batch *pgx.Batch, sql string, rows []nested, requestedAt pgtype.Timestamptz, b *Block) {
	if len(rows) > 0 {
		values := column(rows, func(n nested) []any { return n.values() })
		batch.Queue(sql, append([]any{w.organization, requestedAt, b.Force, b.Rewrite}, transposed(values)...)...)
	}
}

// saveCustomersSQL writes customers in the order of the arrays, which is that of
// their ids: all writers lock rows in one order. A forced answer replaces a newer
// state only if that was written before the request began; a time later than now
// was given by a clock that was ahead, and counts as before. An event can say that a
// customer was deleted although its JSON does not.
const saveCustomersSQL = `
INSERT INTO polar.customers AS c (
    organization_id,
    id,
    created_at,
    modified_at,
    deleted_at,
    digest,
    email_verified,
    type,
    external_id,
    email,
    name,
    billing_name,
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
    unnest($10::boolean[]),
    unnest($11::text[]),
    unnest($12::text[]),
    unnest($13::text[]),
    unnest($14::text[]),
    unnest($15::text[]),
    unnest($16::jsonb[]),
    unnest($17::jsonb[])
ON CONFLICT (id) DO UPDATE SET
    created_at = excluded.created_at,
    modified_at = excluded.modified_at,
    deleted_at = excluded.deleted_at,
    digest = excluded.digest,
    email_verified = excluded.email_verified,
    type = excluded.type,
    external_id = excluded.external_id,
    email = excluded.email,
    name = excluded.name,
    billing_name = excluded.billing_name,
    metadata = excluded.metadata,
    raw = excluded.raw,
    last_changed_at = clock_timestamp()
WHERE ($4::boolean OR c.digest <> excluded.digest OR c.deleted_at IS NULL AND excluded.deleted_at IS NOT NULL)
  AND (($3::boolean AND (c.last_changed_at < $2::timestamptz OR c.last_changed_at > clock_timestamp()))
       OR coalesce(excluded.modified_at, excluded.created_at) >= coalesce(c.modified_at, c.created_at))`

// customerColumns are those of saveCustomersSQL, the organization last.
var customerColumns = []string{
	"id",
	"created_at",
	"modified_at",
	"deleted_at",
	"digest",
	"email_verified",
	"type",
	"external_id",
	"email",
	"name",
	"billing_name",
	"metadata",
	"raw",
	"organization_id",
}

// nestedCustomers are the newest states of customers, in the order of their ids.
func nestedCustomers(all []*polar.Customer) []nested {
	customers := newest(all, func(c *polar.Customer) uuid.UUID { return c.ID }, (*polar.Customer).ChangedAt)
	return column(customers, func(c *polar.Customer) nested {
		n := nested{id: c.ID, digest: digest(c.Raw), changedAt: c.ChangedAt()}
		n.values = func() []any {
			return append(make([]any, 0, len(customerColumns)), // with room for the organization
				id(c.ID),
				timestamp(c.CreatedAt),
				timestamp(c.ModifiedAt),
				timestamp(c.DeletedAt),
				n.digest,
				c.EmailVerified,
				c.Type,
				c.ExternalID,
				c.Email,
				c.Name,
				c.BillingName,
				[]byte(c.Metadata),
				[]byte(c.Raw),
			)
		}
		return n
	})
}

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
