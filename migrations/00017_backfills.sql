-- One backfill walks several organizations. Should its process die, the next
-- one leaves out those it had done.

-- +goose Up
CREATE TABLE polar.backfills (
    id          bigint      GENERATED ALWAYS AS IDENTITY,
    started_at  timestamptz NOT NULL,
    finished_at timestamptz,
    CONSTRAINT backfills_pkey PRIMARY KEY (id)
);

COMMENT ON TABLE polar.backfills IS 'Calls of syncd --backfill. One that was cut short is gone on with by the next call, within 24 hours.';
COMMENT ON COLUMN polar.backfills.id IS 'Number of the backfill.';
COMMENT ON COLUMN polar.backfills.started_at IS 'When it began, calls that were cut short included.';
COMMENT ON COLUMN polar.backfills.finished_at IS 'When it came to its end, whether it succeeded or not; null if it was cut short.';

-- +goose Down
DROP TABLE polar.backfills;
