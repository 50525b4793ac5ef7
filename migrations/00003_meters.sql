-- Meters, as they are nested in customer meters.

-- +goose Up
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
    CONSTRAINT meters_pkey PRIMARY KEY (id),
    CONSTRAINT meters_organization_id_fkey FOREIGN KEY (organization_id) REFERENCES polar.organizations (id)
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

-- +goose Down
DROP TABLE polar.meters;
