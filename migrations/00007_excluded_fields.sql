-- What of customers is never stored, so that a start knows whether anything has to
-- be removed.

-- +goose Up
CREATE TABLE polar.excluded_fields (
    field text NOT NULL,
    CONSTRAINT excluded_fields_pkey PRIMARY KEY (field)
);

COMMENT ON TABLE polar.excluded_fields IS 'Fields of customers that are not stored, from privacy.exclude. What was stored of a field is removed when it is added here.';
COMMENT ON COLUMN polar.excluded_fields.field IS 'Name of the field at Polar.';

COMMENT ON COLUMN polar.customers.raw IS 'The whole customer as Polar sent it, fields without a column of their own included, those in excluded_fields left out.';
COMMENT ON COLUMN polar.rejected_rows.digest IS 'First 16 bytes of the SHA-256 of the row as sent, excluded fields left out, so that each walk does not add it again.';
COMMENT ON COLUMN polar.rejected_rows.raw IS 'The row as sent, excluded fields left out; bytes that are no UTF-8, and U+0000, as U+FFFD; of more than 64 KiB the beginning, and how many bytes there were. Empty if excluded fields could not be left out.';
COMMENT ON COLUMN polar.webhook_events.payload IS 'The body as received, excluded fields left out, readable with convert_from(payload, ''UTF8''); null once it was applied or ignored, or if excluded fields could not be left out.';

-- +goose Down
DROP TABLE polar.excluded_fields;
