-- The mirror itself. The walk compares one stretch of Polar's list with the
-- same stretch of this table, hence the index in the order of the walk.

-- +goose Up
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
    CONSTRAINT customer_meters_organization_id_fkey FOREIGN KEY (organization_id) REFERENCES polar.organizations (id),
    CONSTRAINT customer_meters_customer_id_fkey FOREIGN KEY (customer_id) REFERENCES polar.customers (id),
    CONSTRAINT customer_meters_meter_id_fkey FOREIGN KEY (meter_id) REFERENCES polar.meters (id)
);

CREATE INDEX customer_meters_walk_idx ON polar.customer_meters (organization_id, created_at, customer_id, meter_id);
CREATE INDEX customer_meters_customer_id_idx ON polar.customer_meters (customer_id);

COMMENT ON TABLE polar.customer_meters IS 'One row per customer and meter: the units consumed and credited, and the balance, with the digits Polar sent.';
COMMENT ON COLUMN polar.customer_meters.id IS 'Id of the customer meter at Polar.';
COMMENT ON COLUMN polar.customer_meters.organization_id IS 'Organization the customer meter belongs to.';
COMMENT ON COLUMN polar.customer_meters.customer_id IS 'Customer whose units these are.';
COMMENT ON COLUMN polar.customer_meters.meter_id IS 'Meter that counts them.';
COMMENT ON COLUMN polar.customer_meters.credited_units IS 'Units credited.';
COMMENT ON COLUMN polar.customer_meters.created_at IS 'When Polar created the customer meter.';
COMMENT ON COLUMN polar.customer_meters.modified_at IS 'When the units last moved at Polar; null if never.';
COMMENT ON COLUMN polar.customer_meters.first_seen_at IS 'When syncd first saw the row.';
COMMENT ON COLUMN polar.customer_meters.last_changed_at IS 'When syncd last saw the row change; equals observed_at of its newest row in the history.';
COMMENT ON COLUMN polar.customer_meters.deleted_at IS 'When Polar said that it no longer has the row; null while it has. Never guessed.';
COMMENT ON COLUMN polar.customer_meters.out_of_scope_at IS 'When the row left the configured filter and stopped being kept current; null inside it.';
COMMENT ON COLUMN polar.customer_meters.consumed_units IS 'Units consumed; can go down when a billing period begins.';
COMMENT ON COLUMN polar.customer_meters.balance IS 'Credited less consumed units, as Polar states it; can be negative.';
COMMENT ON COLUMN polar.customer_meters.extra IS 'Fields unknown to syncd, as one JSON object; null if there are none.';

-- +goose Down
DROP TABLE polar.customer_meters;
