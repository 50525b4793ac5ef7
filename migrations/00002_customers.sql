-- Customers, as they are nested in customer meters. digest lets a sight of an
-- unchanged customer be recognised without parsing its JSON again.

-- +goose Up
CREATE TABLE polar.customers (
    id              uuid        NOT NULL,
    organization_id uuid        NOT NULL,
    created_at      timestamptz NOT NULL,
    modified_at     timestamptz,
    deleted_at      timestamptz,
    digest          bytea       NOT NULL,
    email_verified  boolean     NOT NULL,
    type            text        NOT NULL,
    external_id     text,
    email           text,
    name            text,
    billing_name    text,
    metadata        jsonb,
    raw             jsonb       NOT NULL,
    CONSTRAINT customers_pkey PRIMARY KEY (id),
    CONSTRAINT customers_organization_id_fkey FOREIGN KEY (organization_id) REFERENCES polar.organizations (id)
);

COMMENT ON TABLE polar.customers IS 'Customers as Polar last showed them. Holds personal data.';
COMMENT ON COLUMN polar.customers.id IS 'Id of the customer at Polar.';
COMMENT ON COLUMN polar.customers.organization_id IS 'Organization the customer belongs to.';
COMMENT ON COLUMN polar.customers.created_at IS 'When Polar created the customer.';
COMMENT ON COLUMN polar.customers.modified_at IS 'When Polar last modified the customer; null if never.';
COMMENT ON COLUMN polar.customers.deleted_at IS 'When Polar soft-deleted the customer; its customer meters stay. Null if it did not.';
COMMENT ON COLUMN polar.customers.digest IS 'First 16 bytes of the SHA-256 of the JSON as Polar sent it.';
COMMENT ON COLUMN polar.customers.email_verified IS 'Whether the customer has proven the e-mail address.';
COMMENT ON COLUMN polar.customers.type IS 'individual or team, or what a later version of Polar sends.';
COMMENT ON COLUMN polar.customers.external_id IS 'Id of the customer in the seller''s own system: the column to join your data on.';
COMMENT ON COLUMN polar.customers.email IS 'E-mail address; a team may have none.';
COMMENT ON COLUMN polar.customers.name IS 'Name of the customer.';
COMMENT ON COLUMN polar.customers.billing_name IS 'Name on invoices.';
COMMENT ON COLUMN polar.customers.metadata IS 'Key-value pairs the seller attached to the customer.';
COMMENT ON COLUMN polar.customers.raw IS 'The whole customer as Polar sent it, fields unknown to syncd included.';

-- +goose Down
DROP TABLE polar.customers;
