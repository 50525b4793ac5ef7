-- Who runs out, and when, at the pace of the last seven days.

-- +goose Up
CREATE VIEW polar.burn_rate AS
SELECT
    r.organization_id,
    r.customer_meter_id,
    r.customer_id,
    r.meter_id,
    r.balance,
    round(r.units_per_day, 6) AS units_per_day,
    CASE
        WHEN r.balance > 0 AND r.units_per_day > 0 AND r.balance / r.units_per_day < 36500
            THEN now() + (r.balance / r.units_per_day)::double precision * interval '1 day'
    END AS zero_at
FROM (
    SELECT
        m.organization_id,
        m.id AS customer_meter_id,
        m.customer_id,
        m.meter_id,
        m.balance,
        coalesce(u.units, 0)
            / greatest(least(extract(epoch FROM now() - m.first_seen_at) / 86400, 7), 1.0 / 24) AS units_per_day
    FROM polar.customer_meters m
    LEFT JOIN LATERAL (
        SELECT sum(
            CASE
                WHEN s.consumed_units >= s.previous THEN s.consumed_units - s.previous
                ELSE greatest(s.consumed_units, 0)
            END) AS units
        FROM (
            SELECT
                h.consumed_units,
                h.observed_at,
                lag(h.consumed_units) OVER (ORDER BY h.observed_at) AS previous
            FROM (
                SELECT b.consumed_units, b.observed_at
                FROM (
                    SELECT p.consumed_units, p.observed_at
                    FROM polar.customer_meter_history p
                    WHERE p.customer_meter_id = m.id
                      AND p.observed_at < now() - interval '7 days'
                    ORDER BY p.observed_at DESC
                    LIMIT 1
                ) b
                UNION ALL
                SELECT w.consumed_units, w.observed_at
                FROM polar.customer_meter_history w
                WHERE w.customer_meter_id = m.id
                  AND w.observed_at >= now() - interval '7 days'
            ) h
        ) s
        WHERE s.previous IS NOT NULL
    ) u ON true
    WHERE m.deleted_at IS NULL
      AND m.out_of_scope_at IS NULL
) r;

COMMENT ON VIEW polar.burn_rate IS 'Per customer meter that Polar has now: the pace of the last 7 days (or since syncd first saw the row, at least an hour), and when the balance reaches zero at that pace.';
COMMENT ON COLUMN polar.burn_rate.organization_id IS 'Organization.';
COMMENT ON COLUMN polar.burn_rate.customer_meter_id IS 'Customer meter.';
COMMENT ON COLUMN polar.burn_rate.customer_id IS 'Customer.';
COMMENT ON COLUMN polar.burn_rate.meter_id IS 'Meter.';
COMMENT ON COLUMN polar.burn_rate.balance IS 'Balance now.';
COMMENT ON COLUMN polar.burn_rate.units_per_day IS 'Units consumed a day; a reset is not negative usage.';
COMMENT ON COLUMN polar.burn_rate.zero_at IS 'When the balance reaches zero at that pace; null if it is not above zero, nothing is consumed, or it is more than a hundred years away.';

-- +goose Down
DROP VIEW polar.burn_rate;
