package store

import (
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"polarmirror/internal/polar"
)

// saveCustomersSQL compares by digest first, so that only a customer that
// changed has its JSON parsed and its row written.
const saveCustomersSQL = `
WITH incoming AS MATERIALIZED (
    SELECT
        i.id,
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
        i.metadata,
        i.raw
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
),
compared AS MATERIALIZED (
    SELECT
        i.id,
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
        i.metadata,
        i.raw,
        m.id IS NULL AS missing,
        $16::boolean OR m.digest IS DISTINCT FROM i.digest AS differs,
        coalesce(i.modified_at, i.created_at) < coalesce(m.modified_at, m.created_at) AS older
    FROM incoming i
    LEFT JOIN LATERAL (
        SELECT
            s.id,
            s.created_at,
            s.modified_at,
            s.digest
        FROM polar.customers s
        WHERE s.id = i.id
        LIMIT 1
    ) m ON true
),
written AS (
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
    FROM compared i
    WHERE i.missing
       OR (i.differs AND ($15::boolean OR NOT i.older))
    ORDER BY i.id
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
      AND ($15::boolean OR coalesce(excluded.modified_at, excluded.created_at) >= coalesce(c.modified_at, c.created_at))
)
SELECT ARRAY(SELECT o.id FROM compared o WHERE o.older AND o.differs AND NOT $15::boolean)`

func (s *Session) queueCustomers(batch *pgx.Batch, b *Block, customers nested[polar.Customer], saved *Saved) {
	rows := customers.rows
	if len(rows) == 0 {
		return
	}
	batch.Queue(saveCustomersSQL,
		uuids(rows, func(c *polar.Customer) uuid.UUID { return c.ID }),
		times(rows, func(c *polar.Customer) time.Time { return c.CreatedAt }),
		times(rows, func(c *polar.Customer) time.Time { return c.ModifiedAt }),
		times(rows, func(c *polar.Customer) time.Time { return c.DeletedAt }),
		blobs(customers.digests, sameBytes),
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
	).QueryRow(func(row pgx.Row) error {
		return older(row, saved, b, func(m *polar.CustomerMeter) uuid.UUID { return m.CustomerID })
	})
}

// older notes, for each customer or meter that was listed with an older state
// than is stored, one customer meter to ask for again.
func older(row pgx.Row, saved *Saved, b *Block, owner func(*polar.CustomerMeter) uuid.UUID) error {
	var owners []uuid.UUID
	if err := row.Scan(&owners); err != nil || len(owners) == 0 {
		return err
	}
	wanted := make(map[uuid.UUID]bool, len(owners))
	for _, id := range owners {
		wanted[id] = true
	}
	for _, m := range b.CustomerMeters {
		if wanted[owner(m)] {
			delete(wanted, owner(m))
			saved.Older = append(saved.Older, m.ID)
		}
	}
	return nil
}
