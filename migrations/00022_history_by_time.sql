-- The history is written in the order of observed_at, so a few kilobytes say
-- which blocks hold a day; without them a day costs a look at its whole month.

-- +goose Up
CREATE INDEX customer_meter_history_observed_at_idx ON polar.customer_meter_history USING brin (observed_at) WITH (pages_per_range = 32, autosummarize = on);

COMMENT ON INDEX polar.customer_meter_history_observed_at_idx IS 'Which blocks hold which days.';

-- +goose Down
DROP INDEX polar.customer_meter_history_observed_at_idx;
