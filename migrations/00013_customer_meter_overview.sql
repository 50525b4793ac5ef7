-- The flat join that people and BI tools read.

-- +goose Up
CREATE VIEW polar.customer_meter_overview AS
SELECT
    o.name AS organization,
    c.id AS customer_id,
    c.external_id AS customer_external_id,
    c.name AS customer_name,
    c.email AS customer_email,
    t.id AS meter_id,
    t.name AS meter_name,
    t.unit AS meter_unit,
    t.archived_at IS NOT NULL AS meter_archived,
    m.consumed_units,
    m.credited_units,
    m.balance,
    coalesce(m.modified_at, m.created_at) AS changed_at,
    m.last_changed_at AS change_seen_at,
    m.id AS customer_meter_id,
    m.organization_id
FROM polar.customer_meters m
JOIN polar.organizations o ON o.id = m.organization_id
JOIN polar.customers c ON c.id = m.customer_id
JOIN polar.meters t ON t.id = m.meter_id
WHERE m.deleted_at IS NULL
  AND m.out_of_scope_at IS NULL;

COMMENT ON VIEW polar.customer_meter_overview IS 'One row per customer and meter that Polar has now, with names: the view to query first. Holds personal data.';
COMMENT ON COLUMN polar.customer_meter_overview.organization IS 'Label of the organization.';
COMMENT ON COLUMN polar.customer_meter_overview.customer_id IS 'Id of the customer at Polar.';
COMMENT ON COLUMN polar.customer_meter_overview.customer_external_id IS 'Id of the customer in the seller''s own system.';
COMMENT ON COLUMN polar.customer_meter_overview.customer_name IS 'Name of the customer.';
COMMENT ON COLUMN polar.customer_meter_overview.customer_email IS 'E-mail address of the customer.';
COMMENT ON COLUMN polar.customer_meter_overview.meter_id IS 'Id of the meter at Polar.';
COMMENT ON COLUMN polar.customer_meter_overview.meter_name IS 'Name of the meter.';
COMMENT ON COLUMN polar.customer_meter_overview.meter_unit IS 'Unit of the meter.';
COMMENT ON COLUMN polar.customer_meter_overview.meter_archived IS 'Whether the meter is archived; its rows are then as last seen.';
COMMENT ON COLUMN polar.customer_meter_overview.consumed_units IS 'Units consumed.';
COMMENT ON COLUMN polar.customer_meter_overview.credited_units IS 'Units credited.';
COMMENT ON COLUMN polar.customer_meter_overview.balance IS 'Credited less consumed units, as Polar states it.';
COMMENT ON COLUMN polar.customer_meter_overview.changed_at IS 'When the units last moved at Polar.';
COMMENT ON COLUMN polar.customer_meter_overview.change_seen_at IS 'When syncd last saw the row change.';
COMMENT ON COLUMN polar.customer_meter_overview.customer_meter_id IS 'Id of the customer meter at Polar.';
COMMENT ON COLUMN polar.customer_meter_overview.organization_id IS 'Id of the organization at Polar.';

-- +goose Down
DROP VIEW polar.customer_meter_overview;
