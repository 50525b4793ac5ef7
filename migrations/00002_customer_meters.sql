-- The mirror itself: customers and meters, as they are nested in customer meters,
-- and the customer meters. digest lets syncd recognise an unchanged customer or
-- meter without parsing its JSON. A walk compares one stretch of Polar's list with
-- the same stretch of customer_meters, hence the index in the order of the walk.
--
-- No row refers to polar.organizations: that check costs as much as an index on
-- each row, syncd registers an organization before it writes any of its rows, and
-- it removes none.

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
    last_changed_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    CONSTRAINT customers_pkey PRIMARY KEY (id)
);

-- A sweep takes an organization's customers in the order of their ids.
CREATE INDEX customers_organization_id_idx ON polar.customers (organization_id, id);
CREATE INDEX customers_external_id_idx ON polar.customers (organization_id, external_id);

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
COMMENT ON COLUMN polar.customers.last_changed_at IS 'When syncd last wrote the customer.';

CREATE TABLE polar.meters (
    id              uuid        NOT NULL,
    organization_id uuid        NOT NULL,
    created_at      timestamptz NOT NULL,
    modified_at     timestamptz,
    archived_at     timestamptz,
    digest          bytea       NOT NULL,
    name            text        NOT NULL,
    unit            text,
    aggregation     jsonb,
    filter          jsonb,
    metadata        jsonb,
    raw             jsonb       NOT NULL,
    last_changed_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    CONSTRAINT meters_pkey PRIMARY KEY (id)
);

COMMENT ON TABLE polar.meters IS 'Meters as Polar last showed them.';
COMMENT ON COLUMN polar.meters.id IS 'Id of the meter at Polar.';
COMMENT ON COLUMN polar.meters.organization_id IS 'Organization the meter belongs to.';
COMMENT ON COLUMN polar.meters.created_at IS 'When Polar created the meter.';
COMMENT ON COLUMN polar.meters.modified_at IS 'When Polar last modified the meter; null if never.';
COMMENT ON COLUMN polar.meters.archived_at IS 'When the meter was archived; its customer meters stay here but are no longer listed by Polar. Null if it was not.';
COMMENT ON COLUMN polar.meters.digest IS 'First 16 bytes of the SHA-256 of the JSON as Polar sent it.';
COMMENT ON COLUMN polar.meters.name IS 'Name of the meter, as on invoices.';
COMMENT ON COLUMN polar.meters.unit IS 'scalar, token or custom, or what a later version of Polar sends.';
COMMENT ON COLUMN polar.meters.aggregation IS 'How events become units.';
COMMENT ON COLUMN polar.meters.filter IS 'Which events count.';
COMMENT ON COLUMN polar.meters.metadata IS 'Key-value pairs the seller attached to the meter.';
COMMENT ON COLUMN polar.meters.raw IS 'The whole meter as Polar sent it, fields unknown to syncd included.';
COMMENT ON COLUMN polar.meters.last_changed_at IS 'When syncd last wrote the meter.';

CREATE TABLE polar.customer_meters (
    id              uuid        NOT NULL,
    organization_id uuid        NOT NULL,
    customer_id     uuid        NOT NULL,
    meter_id        uuid        NOT NULL,
    credited_units  bigint      NOT NULL,
    created_at      timestamptz NOT NULL,
    modified_at     timestamptz,
    first_seen_at   timestamptz NOT NULL,
    last_changed_at timestamptz NOT NULL,
    deleted_at      timestamptz,
    out_of_scope_at timestamptz,
    consumed_units  numeric     NOT NULL,
    balance         numeric     NOT NULL,
    extra           jsonb,
    CONSTRAINT customer_meters_pkey PRIMARY KEY (id),
    CONSTRAINT customer_meters_customer_id_fkey FOREIGN KEY (customer_id) REFERENCES polar.customers (id),
    CONSTRAINT customer_meters_meter_id_fkey FOREIGN KEY (meter_id) REFERENCES polar.meters (id)
);

CREATE INDEX customer_meters_walk_idx ON polar.customer_meters (organization_id, created_at, customer_id, meter_id);
CREATE INDEX customer_meters_customer_id_idx ON polar.customer_meters (customer_id);

-- A row's meter never changes, so that updates stay in place (HOT) all the same.
CREATE INDEX customer_meters_meter_id_idx ON polar.customer_meters (meter_id);

COMMENT ON TABLE polar.customer_meters IS 'One row per customer and meter: the units consumed and credited, and the balance, with the digits Polar sent.';
COMMENT ON COLUMN polar.customer_meters.id IS 'Id of the customer meter at Polar.';
COMMENT ON COLUMN polar.customer_meters.organization_id IS 'Organization the customer meter belongs to.';
COMMENT ON COLUMN polar.customer_meters.customer_id IS 'Customer whose units these are.';
COMMENT ON COLUMN polar.customer_meters.meter_id IS 'Meter that counts them.';
COMMENT ON COLUMN polar.customer_meters.credited_units IS 'Units credited.';
COMMENT ON COLUMN polar.customer_meters.created_at IS 'When Polar created the customer meter.';
COMMENT ON COLUMN polar.customer_meters.modified_at IS 'When the units last moved at Polar; null if never.';
COMMENT ON COLUMN polar.customer_meters.first_seen_at IS 'When syncd first saw the row.';
COMMENT ON COLUMN polar.customer_meters.last_changed_at IS 'When syncd last saw the row change; equals observed_at of its newest row in the history that is not carried.';
COMMENT ON COLUMN polar.customer_meters.deleted_at IS 'When Polar said that it no longer has the row; null while it has. Never guessed.';
COMMENT ON COLUMN polar.customer_meters.out_of_scope_at IS 'When the row left the configured filter and stopped being kept current; null inside it.';
COMMENT ON COLUMN polar.customer_meters.consumed_units IS 'Units consumed; can go down when a billing period begins.';
COMMENT ON COLUMN polar.customer_meters.balance IS 'Credited less consumed units, as Polar states it; can be negative.';
COMMENT ON COLUMN polar.customer_meters.extra IS 'Fields unknown to syncd, as one JSON object; null if there are none.';

-- +goose Down
DROP TABLE polar.customer_meters;
DROP TABLE polar.meters;
DROP TABLE polar.customers;
