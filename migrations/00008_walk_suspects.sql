-- Rows that a walk expected to see and did not. They outlive a crash, and are
-- asked for one by one before anything is called deleted.

-- +goose Up
CREATE TABLE polar.walk_suspects (
    organization_id   uuid NOT NULL,
    customer_meter_id uuid NOT NULL,
    meter_id          uuid NOT NULL,
    CONSTRAINT walk_suspects_pkey PRIMARY KEY (organization_id, customer_meter_id)
);

COMMENT ON TABLE polar.walk_suspects IS 'Live customer meters that the current full run did not find in Polar''s list, until Polar has been asked for each.';
COMMENT ON COLUMN polar.walk_suspects.organization_id IS 'Organization being walked.';
COMMENT ON COLUMN polar.walk_suspects.customer_meter_id IS 'Customer meter that was not listed.';
COMMENT ON COLUMN polar.walk_suspects.meter_id IS 'Its meter; an archived meter explains all its suspects.';

-- +goose Down
DROP TABLE polar.walk_suspects;
