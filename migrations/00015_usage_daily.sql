-- Usage a day, from differences between states. Units that go down mean that a
-- billing period began: what stands there then was consumed since.

-- +goose Up
CREATE VIEW polar.usage_daily AS
SELECT
    d.organization_id,
    d.customer_meter_id,
    d.day,
    sum(d.consumed) AS consumed_units,
    sum(d.credited)::bigint AS credited_units,
    count(*) FILTER (WHERE d.reset) AS resets,
    (array_agg(d.balance ORDER BY d.observed_at DESC))[1] AS closing_balance
FROM (
    SELECT
        s.organization_id,
        s.customer_meter_id,
        (s.observed_at AT TIME ZONE 'UTC')::date AS day,
        s.observed_at,
        s.balance,
        s.source,
        coalesce(s.consumed_units < s.previous_consumed, false) AS reset,
        CASE
            WHEN s.previous_consumed IS NOT NULL AND s.consumed_units >= s.previous_consumed
                THEN s.consumed_units - s.previous_consumed
            WHEN s.previous_consumed IS NOT NULL
                THEN greatest(s.consumed_units, 0)
            WHEN s.born_that_day
                THEN s.consumed_units
            ELSE 0
        END AS consumed,
        CASE
            WHEN s.previous_credited IS NOT NULL AND s.consumed_units < s.previous_consumed AND s.credited_units < s.previous_credited
                THEN s.credited_units::numeric
            WHEN s.previous_credited IS NOT NULL
                THEN s.credited_units::numeric - s.previous_credited
            WHEN s.born_that_day
                THEN s.credited_units::numeric
            ELSE 0
        END AS credited
    FROM (
        SELECT
            h.organization_id,
            h.customer_meter_id,
            h.observed_at,
            h.consumed_units,
            h.credited_units,
            h.balance,
            h.source,
            lag(h.consumed_units) OVER w AS previous_consumed,
            lag(h.credited_units) OVER w AS previous_credited,
            h.source <> 'carried'
                AND (m.created_at AT TIME ZONE 'UTC')::date = (h.observed_at AT TIME ZONE 'UTC')::date AS born_that_day
        FROM polar.customer_meter_history h
        JOIN polar.customer_meters m ON m.id = h.customer_meter_id
        WINDOW w AS (PARTITION BY h.customer_meter_id ORDER BY h.observed_at)
    ) s
) d
WHERE d.source <> 'carried'
GROUP BY d.organization_id, d.customer_meter_id, d.day;

COMMENT ON VIEW polar.usage_daily IS 'Per customer meter and day (UTC) with a change seen: what was consumed and credited that day, from the history. The first state seen of a row created earlier is where counting begins, and counts nothing itself.';
COMMENT ON COLUMN polar.usage_daily.organization_id IS 'Organization.';
COMMENT ON COLUMN polar.usage_daily.customer_meter_id IS 'Customer meter.';
COMMENT ON COLUMN polar.usage_daily.day IS 'Day in UTC on which syncd saw the changes.';
COMMENT ON COLUMN polar.usage_daily.consumed_units IS 'Units consumed that day; after a reset, those of the new period. What was consumed between the last look and a reset is not known.';
COMMENT ON COLUMN polar.usage_daily.credited_units IS 'Units credited that day, less those taken back.';
COMMENT ON COLUMN polar.usage_daily.resets IS 'How often consumed units went down.';
COMMENT ON COLUMN polar.usage_daily.closing_balance IS 'Balance after the last change of the day.';

-- +goose Down
DROP VIEW polar.usage_daily;
