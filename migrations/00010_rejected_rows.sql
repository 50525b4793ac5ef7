-- What could not be mirrored stays visible until someone has looked at it.

-- +goose Up
CREATE TABLE polar.rejected_rows (
    id                bigint      GENERATED ALWAYS AS IDENTITY,
    organization_id   uuid        NOT NULL,
    run_id            bigint      NOT NULL,
    page              bigint      NOT NULL,
    customer_meter_id uuid,
    seen_at           timestamptz NOT NULL,
    digest            bytea       NOT NULL,
    reason            text        NOT NULL,
    raw               text        NOT NULL,
    CONSTRAINT rejected_rows_pkey PRIMARY KEY (id),
    CONSTRAINT rejected_rows_organization_id_fkey FOREIGN KEY (organization_id) REFERENCES polar.organizations (id),
    CONSTRAINT rejected_rows_digest_key UNIQUE (organization_id, digest)
);

COMMENT ON TABLE polar.rejected_rows IS 'Rows from Polar that could not be mirrored, with the reason. Holds personal data; kept for 30 days after the last sight.';
COMMENT ON COLUMN polar.rejected_rows.id IS 'Number of the rejection.';
COMMENT ON COLUMN polar.rejected_rows.organization_id IS 'Organization whose list held the row.';
COMMENT ON COLUMN polar.rejected_rows.run_id IS 'Run that last recorded it.';
COMMENT ON COLUMN polar.rejected_rows.page IS 'Offset in the list of the page that held it, counted from 0.';
COMMENT ON COLUMN polar.rejected_rows.customer_meter_id IS 'Id of the customer meter; null if it could not be read.';
COMMENT ON COLUMN polar.rejected_rows.seen_at IS 'When it was last recorded; renewed once a day while Polar keeps sending it.';
COMMENT ON COLUMN polar.rejected_rows.digest IS 'First 16 bytes of the SHA-256 of the row as sent, so that each walk does not add it again.';
COMMENT ON COLUMN polar.rejected_rows.reason IS 'Which field was unusable, and why.';
COMMENT ON COLUMN polar.rejected_rows.raw IS 'The row as sent; bytes that are no UTF-8, and U+0000, as U+FFFD.';

-- +goose Down
DROP TABLE polar.rejected_rows;
