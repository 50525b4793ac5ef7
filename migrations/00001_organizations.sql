-- The organizations this database mirrors; everything else refers to them. And
-- which binaries may use this schema: a binary knows the number of the newest
-- migration it was built with; below oldest_migration it is refused.

-- +goose Up
CREATE TABLE polar.organizations (
    id              uuid        NOT NULL,
    name            text        NOT NULL,
    created_at      timestamptz NOT NULL DEFAULT now(),
    found_change_at timestamptz,
    CONSTRAINT organizations_pkey PRIMARY KEY (id),
    CONSTRAINT organizations_name_not_empty CHECK (name <> '')
);

COMMENT ON TABLE polar.organizations IS 'Organizations at Polar whose customer meters are mirrored here.';
COMMENT ON COLUMN polar.organizations.id IS 'Id of the organization at Polar.';
COMMENT ON COLUMN polar.organizations.name IS 'Label from the configuration, as it stands in logs and metrics.';
COMMENT ON COLUMN polar.organizations.created_at IS 'When this database first mirrored the organization.';
COMMENT ON COLUMN polar.organizations.found_change_at IS 'When, by Polar''s clock, the newest change was made that a run of the service found and no webhook had brought before; null if there is none, or if the organization has no webhooks.';

COMMENT ON TABLE polar.goose_db_version IS 'Migrations applied to this schema, kept by goose.';
COMMENT ON COLUMN polar.goose_db_version.id IS 'Number of the entry.';
COMMENT ON COLUMN polar.goose_db_version.version_id IS 'Number of the migration.';
COMMENT ON COLUMN polar.goose_db_version.is_applied IS 'Whether it was applied.';
COMMENT ON COLUMN polar.goose_db_version.tstamp IS 'When.';

CREATE TABLE polar.schema_compatibility (
    oldest_migration bigint NOT NULL,
    singleton        boolean NOT NULL DEFAULT true,
    CONSTRAINT schema_compatibility_pkey PRIMARY KEY (singleton),
    CONSTRAINT schema_compatibility_singleton CHECK (singleton)
);
INSERT INTO polar.schema_compatibility (oldest_migration) VALUES (1);

COMMENT ON TABLE polar.schema_compatibility IS 'The oldest syncd that may use this schema.';
COMMENT ON COLUMN polar.schema_compatibility.oldest_migration IS 'Number of the newest migration that a binary must at least have been built with.';
COMMENT ON COLUMN polar.schema_compatibility.singleton IS 'Always true: the table has one row.';

-- +goose Down
DROP TABLE polar.schema_compatibility;
DROP TABLE polar.organizations;
