package store

import (
	"context"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"

	"polarmirror/internal/polar"
)

// saveCustomersSQL writes customers in the order of the arrays, which is that of
// their ids: all writers lock rows in one order. A forced answer replaces a newer
// state only if that was written before the request began; a time later than now
// was given by a clock that was ahead, and counts as before.
const saveCustomersSQL = `
INSERT INTO polar.customers AS c (
    id,
    organization_id,
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
    i.id,
    $14::uuid,
    i.created_at,
    i.modified_at,
    i.deleted_at,
    i.digest,
    i.email_verified,
    i.type,
    i.external_id,
    i.email,
    i.name,
    i.billing_name,
    i.metadata::jsonb,
    i.raw::jsonb
FROM unnest(
    $1::uuid[],
    $2::timestamptz[],
    $3::timestamptz[],
    $4::timestamptz[],
    $5::bytea[],
    $6::boolean[],
    $7::text[],
    $8::text[],
    $9::text[],
    $10::text[],
    $11::text[],
    $12::text[],
    $13::text[]
) AS i (
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
WHERE ($17::boolean OR c.digest <> excluded.digest)
  AND (($16::boolean AND (c.last_changed_at < $15::timestamptz OR c.last_changed_at > clock_timestamp()))
       OR coalesce(excluded.modified_at, excluded.created_at) >= coalesce(c.modified_at, c.created_at))`

func (w *Writer) queueCustomers(batch *pgx.Batch, customers []nested[polar.Customer], requestedAt pgtype.Timestamptz, force, rewrite bool) {
	if len(customers) == 0 {
		return
	}
	rows := column(customers, func(n nested[polar.Customer]) *polar.Customer { return n.value })
	batch.Queue(saveCustomersSQL,
		column(rows, func(c *polar.Customer) pgtype.UUID { return id(c.ID) }),
		column(rows, func(c *polar.Customer) pgtype.Timestamptz { return timestamp(c.CreatedAt) }),
		column(rows, func(c *polar.Customer) pgtype.Timestamptz { return timestamp(c.ModifiedAt) }),
		column(rows, func(c *polar.Customer) pgtype.Timestamptz { return timestamp(c.DeletedAt) }),
		column(customers, func(n nested[polar.Customer]) []byte { return n.digest }),
		column(rows, func(c *polar.Customer) bool { return c.EmailVerified }),
		column(rows, func(c *polar.Customer) string { return c.Type }),
		column(rows, func(c *polar.Customer) *string { return c.ExternalID }),
		column(rows, func(c *polar.Customer) *string { return c.Email }),
		column(rows, func(c *polar.Customer) *string { return c.Name }),
		column(rows, func(c *polar.Customer) *string { return c.BillingName }),
		column(rows, func(c *polar.Customer) []byte { return c.Metadata }),
		column(rows, func(c *polar.Customer) []byte { return c.Raw }),
		w.organization,
		requestedAt,
		force,
		rewrite,
	)
}

var customerColumns = []string{
	"id",
	"organization_id",
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
}

func (w *Writer) copyCustomers(ctx context.Context, tx pgx.Tx, customers []nested[polar.Customer]) error {
	_, err := tx.CopyFrom(ctx, pgx.Identifier{Schema, "customers"}, customerColumns,
		pgx.CopyFromSlice(len(customers), func(i int) ([]any, error) {
			c := customers[i].value
			return []any{
				id(c.ID),
				id(w.organization),
				timestamp(c.CreatedAt),
				timestamp(c.ModifiedAt),
				timestamp(c.DeletedAt),
				customers[i].digest,
				c.EmailVerified,
				c.Type,
				c.ExternalID,
				c.Email,
				c.Name,
				c.BillingName,
				[]byte(c.Metadata),
				[]byte(c.Raw),
			}, nil
		}))
	return err
}
