-- Where an unfinished walk goes on. One row per organization, moved by the
-- transaction that saves a block, gone when the walk is finished.

-- +goose Up
CREATE TABLE polar.walk_cursors (
    organization_id uuid        NOT NULL,
    began_at        timestamptz NOT NULL,
    polar_began_at  timestamptz,
    saved_at        timestamptz NOT NULL,
    low_created_at  timestamptz NOT NULL,
    low_customer_id uuid        NOT NULL,
    low_meter_id    uuid        NOT NULL,
    low_offset      bigint      NOT NULL,
    total_count     bigint      NOT NULL,
    rows_rejected   bigint      NOT NULL,
    fingerprint     text        NOT NULL,
    CONSTRAINT walk_cursors_pkey PRIMARY KEY (organization_id),
    CONSTRAINT walk_cursors_organization_id_fkey FOREIGN KEY (organization_id) REFERENCES polar.organizations (id)
);

COMMENT ON TABLE polar.walk_cursors IS 'Where an unfinished full run goes on: everything from the key (low_created_at, low_customer_id, low_meter_id) upward is mirrored.';
COMMENT ON COLUMN polar.walk_cursors.organization_id IS 'Organization being walked.';
COMMENT ON COLUMN polar.walk_cursors.began_at IS 'When the walk began, pauses included.';
COMMENT ON COLUMN polar.walk_cursors.polar_began_at IS 'The same moment by Polar''s clock; null if its first answer carried no date.';
COMMENT ON COLUMN polar.walk_cursors.saved_at IS 'When the last block was saved; a cursor older than 24 hours is not used.';
COMMENT ON COLUMN polar.walk_cursors.low_created_at IS 'Lowest key proven so far: creation time.';
COMMENT ON COLUMN polar.walk_cursors.low_customer_id IS 'Lowest key proven so far: customer.';
COMMENT ON COLUMN polar.walk_cursors.low_meter_id IS 'Lowest key proven so far: meter.';
COMMENT ON COLUMN polar.walk_cursors.low_offset IS 'Offset at which that key was last seen, counted from 0.';
COMMENT ON COLUMN polar.walk_cursors.total_count IS 'Rows that Polar counted when the walk began.';
COMMENT ON COLUMN polar.walk_cursors.rows_rejected IS 'Rows rejected so far; more than none make the walk not exact.';
COMMENT ON COLUMN polar.walk_cursors.fingerprint IS 'What the walk was asked to read (server, filter, versions); another one begins anew.';

-- +goose Down
DROP TABLE polar.walk_cursors;
