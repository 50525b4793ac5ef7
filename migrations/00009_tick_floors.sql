-- From when on the next incremental run has to look. Stored, never derived
-- from the mirror: a newest row says nothing about what was missed before it.

-- +goose Up
CREATE TABLE polar.tick_floors (
    organization_id uuid        NOT NULL,
    floor_at        timestamptz NOT NULL,
    null_rows       bigint,
    CONSTRAINT tick_floors_pkey PRIMARY KEY (organization_id),
    CONSTRAINT tick_floors_organization_id_fkey FOREIGN KEY (organization_id) REFERENCES polar.organizations (id)
);

COMMENT ON TABLE polar.tick_floors IS 'Per organization, the moment before which nothing can have changed unseen.';
COMMENT ON COLUMN polar.tick_floors.organization_id IS 'Organization.';
COMMENT ON COLUMN polar.tick_floors.floor_at IS 'When, by Polar''s clock, the last successful run began.';
COMMENT ON COLUMN polar.tick_floors.null_rows IS 'How many rows without modified_at Polar listed then; a hint where changed rows begin. Null if not known.';

-- +goose Down
DROP TABLE polar.tick_floors;
