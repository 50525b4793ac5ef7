-- Each customer meter was checked against its customer and its meter, which cost
-- two fifths of a first load. A row's customer and meter are written in the
-- row's own transaction or are there already, and syncd removes none of them;
-- verify compares all three with Polar.

-- +goose Up
ALTER TABLE polar.customer_meters DROP CONSTRAINT customer_meters_customer_id_fkey;
ALTER TABLE polar.customer_meters DROP CONSTRAINT customer_meters_meter_id_fkey;

COMMENT ON COLUMN polar.customer_meters.customer_id IS 'Customer whose units these are, always one of polar.customers.';
COMMENT ON COLUMN polar.customer_meters.meter_id IS 'Meter that counts them, always one of polar.meters.';

-- +goose Down
ALTER TABLE polar.customer_meters ADD CONSTRAINT customer_meters_customer_id_fkey FOREIGN KEY (customer_id) REFERENCES polar.customers (id);
ALTER TABLE polar.customer_meters ADD CONSTRAINT customer_meters_meter_id_fkey FOREIGN KEY (meter_id) REFERENCES polar.meters (id);

COMMENT ON COLUMN polar.customer_meters.customer_id IS 'Customer whose units these are.';
COMMENT ON COLUMN polar.customer_meters.meter_id IS 'Meter that counts them.';
