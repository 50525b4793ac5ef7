package store

import (
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"polarmirror/internal/polar"
)

// siftCustomersSQL returns those that are not stored just so, by their places in
// the arrays, counted from 1, and which of them are older than what is stored.
const siftCustomersSQL = `
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
             FROM polar.customers s
            WHERE s.id = i.id
            LIMIT 1
       ) m ON true
 WHERE m.digest IS DISTINCT FROM i.digest
 ORDER BY i.place`

// saveCustomersSQL writes customers that siftBatch left, in the order of
// the arrays.
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
    raw = excluded.raw
WHERE ($16::boolean OR c.digest <> excluded.digest)
  AND ($15::boolean OR coalesce(excluded.modified_at, excluded.created_at) >= coalesce(c.modified_at, c.created_at))`

func customersKind() nestedKind[polar.Customer] {
	return nestedKind[polar.Customer]{
		siftSQL:    siftCustomersSQL,
		of:         func(m *polar.CustomerMeter) *polar.Customer { return m.Customer },
		id:         func(c *polar.Customer) uuid.UUID { return c.ID },
		createdAt:  func(c *polar.Customer) time.Time { return c.CreatedAt },
		modifiedAt: func(c *polar.Customer) time.Time { return c.ModifiedAt },
		changedAt:  (*polar.Customer).ChangedAt,
		raw:        func(c *polar.Customer) []byte { return c.Raw },
	}
}

func (s *Session) queueCustomers(batch *pgx.Batch, b *Block, customers *nested[polar.Customer]) {
	rows := customers.rows
	if len(rows) == 0 {
		return
	}
	batch.Queue(saveCustomersSQL,
		uuids(rows, func(c *polar.Customer) uuid.UUID { return c.ID }),
		times(rows, func(c *polar.Customer) time.Time { return c.CreatedAt }),
		times(rows, func(c *polar.Customer) time.Time { return c.ModifiedAt }),
		times(rows, func(c *polar.Customer) time.Time { return c.DeletedAt }),
		blobs(customers.digests, func(d []byte) []byte { return d }),
		bools(rows, func(c *polar.Customer) bool { return c.EmailVerified }),
		texts(rows, func(c *polar.Customer) string { return c.Type }),
		optionalTexts(rows, func(c *polar.Customer) *string { return c.ExternalID }),
		optionalTexts(rows, func(c *polar.Customer) *string { return c.Email }),
		optionalTexts(rows, func(c *polar.Customer) *string { return c.Name }),
		optionalTexts(rows, func(c *polar.Customer) *string { return c.BillingName }),
		jsons(rows, func(c *polar.Customer) []byte { return c.Metadata }),
		jsons(rows, func(c *polar.Customer) []byte { return c.Raw }),
		s.organization,
		b.Force,
		b.Rewrite,
	)
}
