-- Every change seen. Polar keeps none of it, so this is the only place where
-- yesterday's balance exists. Partitions are made by syncd, ahead of time. The
-- primary key is also what logical replication finds a row by.

-- +goose Up
CREATE TABLE polar.customer_meter_history (
    customer_meter_id uuid        NOT NULL,
    organization_id   uuid        NOT NULL,
    credited_units    bigint      NOT NULL,
    modified_at       timestamptz,
    observed_at       timestamptz NOT NULL,
    deleted           boolean     NOT NULL,
    consumed_units    numeric     NOT NULL,
    balance           numeric     NOT NULL,
    source            text        NOT NULL,
    CONSTRAINT customer_meter_history_pkey PRIMARY KEY (customer_meter_id, observed_at),
    CONSTRAINT customer_meter_history_source_known CHECK (source IN ('full', 'incremental', 'webhook', 'repair', 'refresh', 'carried', 'simulated'))
) PARTITION BY RANGE (observed_at);

-- The history is written in the order of observed_at, so a few kilobytes say
-- which blocks hold a day; without them a day costs reading its whole month. The
-- second column is the day of usage_daily.
CREATE INDEX customer_meter_history_observed_at_idx ON polar.customer_meter_history USING brin (
    observed_at,
    ((observed_at AT TIME ZONE 'UTC')::date)
) WITH (pages_per_range = 32, autosummarize = on);

COMMENT ON TABLE polar.customer_meter_history IS 'One row per change of a customer meter that was seen, partitioned by month of observed_at. Holds no personal data.';
COMMENT ON COLUMN polar.customer_meter_history.customer_meter_id IS 'Customer meter that changed.';
COMMENT ON COLUMN polar.customer_meter_history.organization_id IS 'Organization it belongs to.';
COMMENT ON COLUMN polar.customer_meter_history.credited_units IS 'Units credited after the change.';
COMMENT ON COLUMN polar.customer_meter_history.modified_at IS 'When the units moved at Polar; null if they never did.';
COMMENT ON COLUMN polar.customer_meter_history.observed_at IS 'When syncd wrote the change; strictly increasing for one customer meter.';
COMMENT ON COLUMN polar.customer_meter_history.deleted IS 'Whether the change is that Polar no longer has the row.';
COMMENT ON COLUMN polar.customer_meter_history.consumed_units IS 'Units consumed after the change.';
COMMENT ON COLUMN polar.customer_meter_history.balance IS 'Balance after the change.';
COMMENT ON COLUMN polar.customer_meter_history.source IS 'What saw it: full, incremental, webhook, repair or refresh; carried: the last state of a dropped partition; simulated: the past of --demo.';

COMMENT ON INDEX polar.customer_meter_history_observed_at_idx IS 'Which blocks hold which days.';

-- +goose Down
DROP TABLE polar.customer_meter_history;
