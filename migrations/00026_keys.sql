-- Logical replication finds a row to update or delete by its primary key; with
-- CREATE PUBLICATION … FOR ALL TABLES, Postgres refuses both on a table without
-- one. The index of the key replaces the index on the same columns. People look
-- customers up by the ids of their own system. A rejected row may be of any length.

-- +goose Up
ALTER TABLE polar.customer_meter_history ADD CONSTRAINT customer_meter_history_pkey PRIMARY KEY (customer_meter_id, observed_at);
DROP INDEX polar.customer_meter_history_idx;

COMMENT ON COLUMN polar.rejected_rows.raw IS 'The row as sent; bytes that are no UTF-8, and U+0000, as U+FFFD; of more than 64 KiB the beginning, and how many bytes there were.';

CREATE INDEX customers_external_id_idx ON polar.customers (organization_id, external_id);

-- +goose Down
COMMENT ON COLUMN polar.rejected_rows.raw IS 'The row as sent; bytes that are no UTF-8, and U+0000, as U+FFFD.';
DROP INDEX polar.customers_external_id_idx;

CREATE INDEX customer_meter_history_idx ON polar.customer_meter_history (customer_meter_id, observed_at);
ALTER TABLE polar.customer_meter_history DROP CONSTRAINT customer_meter_history_pkey;
