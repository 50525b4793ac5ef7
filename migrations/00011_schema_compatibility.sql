-- Which binaries may use this schema. A binary knows the number of the newest
-- migration it was built with; below oldest_migration it is refused.

-- +goose Up
CREATE TABLE polar.schema_compatibility (
    oldest_migration bigint NOT NULL,
    singleton        boolean NOT NULL DEFAULT true,
    CONSTRAINT schema_compatibility_pkey PRIMARY KEY (singleton),
    CONSTRAINT schema_compatibility_singleton CHECK (singleton)
);
INSERT INTO polar.schema_compatibility (oldest_migration) VALUES (11);

COMMENT ON TABLE polar.schema_compatibility IS 'The oldest syncd that may use this schema.';
COMMENT ON COLUMN polar.schema_compatibility.oldest_migration IS 'Number of the newest migration that a binary must at least have been built with.';
COMMENT ON COLUMN polar.schema_compatibility.singleton IS 'Always true: the table has one row.';

-- +goose Down
DROP TABLE polar.schema_compatibility;
