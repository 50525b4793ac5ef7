-- Scheduled times that no run answered are in the log and in the counter
-- syncd_schedule_skips_total.

-- +goose Up
DROP TABLE polar.skipped_slots;

-- +goose Down
CREATE TABLE polar.skipped_slots (
    organization_id uuid        NOT NULL,
    kind            text        NOT NULL,
    first_slot      timestamptz NOT NULL,
    last_slot       timestamptz NOT NULL,
    noted_at        timestamptz NOT NULL,
    slots           bigint      NOT NULL,
    reason          text        NOT NULL,
    CONSTRAINT skipped_slots_pkey PRIMARY KEY (organization_id, kind, first_slot),
    CONSTRAINT skipped_slots_organization_id_fkey FOREIGN KEY (organization_id) REFERENCES polar.organizations (id),
    CONSTRAINT skipped_slots_in_order CHECK (first_slot <= last_slot AND slots > 0)
);

CREATE INDEX skipped_slots_last_idx ON polar.skipped_slots (organization_id, kind, last_slot);
