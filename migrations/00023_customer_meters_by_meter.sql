-- One meter's customer meters, without a look at those of all others. A row's
-- meter never changes, so that its updates stay in place (HOT) all the same.

-- +goose Up
CREATE INDEX customer_meters_meter_id_idx ON polar.customer_meters (meter_id);

COMMENT ON INDEX polar.customer_meters_meter_id_idx IS 'Customer meters of one meter.';

-- +goose Down
DROP INDEX polar.customer_meters_meter_id_idx;
