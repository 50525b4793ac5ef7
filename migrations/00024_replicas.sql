-- What replicas of syncd share beside the runs themselves: scheduled times that
-- no run answered, and when listeners were last told of a change. A schedule is
-- configuration, so which times were left out can't be told from the runs alone.

-- +goose Up
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

COMMENT ON TABLE polar.skipped_slots IS 'Scheduled times that no run answered, noted by the next run of the kind; kept for 30 days. Every scheduled time up to the newest run is the slot of a row of sync_runs or lies in a row of this table.';
COMMENT ON COLUMN polar.skipped_slots.organization_id IS 'Organization.';
COMMENT ON COLUMN polar.skipped_slots.kind IS 'Kind of the runs that did not happen: full or incremental.';
COMMENT ON COLUMN polar.skipped_slots.first_slot IS 'First scheduled time in a row that was skipped.';
COMMENT ON COLUMN polar.skipped_slots.last_slot IS 'Last one; the same if it was one.';
COMMENT ON COLUMN polar.skipped_slots.noted_at IS 'When that was found.';
COMMENT ON COLUMN polar.skipped_slots.slots IS 'How many there were, by the schedule of the syncd that found it.';
COMMENT ON COLUMN polar.skipped_slots.reason IS 'Why.';

CREATE TABLE polar.notifications (
    organization_id uuid        NOT NULL,
    sent_at         timestamptz NOT NULL,
    CONSTRAINT notifications_pkey PRIMARY KEY (organization_id),
    CONSTRAINT notifications_organization_id_fkey FOREIGN KEY (organization_id) REFERENCES polar.organizations (id)
) WITH (fillfactor = 50);

COMMENT ON TABLE polar.notifications IS 'When listeners on channel polar_customer_meters were last told, so that all replicas together tell them at most once a second.';
COMMENT ON COLUMN polar.notifications.organization_id IS 'Organization whose customer meters changed.';
COMMENT ON COLUMN polar.notifications.sent_at IS 'When they were told.';

-- +goose Down
DROP TABLE polar.notifications;
DROP TABLE polar.skipped_slots;
