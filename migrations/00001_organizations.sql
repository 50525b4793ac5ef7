-- The organizations this database mirrors; everything else refers to them.

-- +goose Up
CREATE TABLE polar.organizations (
    id         uuid        NOT NULL,
    name       text        NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT organizations_pkey PRIMARY KEY (id),
    CONSTRAINT organizations_name_not_empty CHECK (name <> '')
);

COMMENT ON TABLE polar.organizations IS 'Organizations at Polar whose customer meters are mirrored here.';
COMMENT ON COLUMN polar.organizations.id IS 'Id of the organization at Polar.';
COMMENT ON COLUMN polar.organizations.name IS 'Label from the configuration, as it stands in logs and metrics.';
COMMENT ON COLUMN polar.organizations.created_at IS 'When this database first mirrored the organization.';

COMMENT ON TABLE polar.goose_db_version IS 'Migrations applied to this schema, kept by goose.';
COMMENT ON COLUMN polar.goose_db_version.id IS 'Number of the entry.';
COMMENT ON COLUMN polar.goose_db_version.version_id IS 'Number of the migration.';
COMMENT ON COLUMN polar.goose_db_version.is_applied IS 'Whether it was applied.';
COMMENT ON COLUMN polar.goose_db_version.tstamp IS 'When.';

-- +goose Down
DROP TABLE polar.organizations;
