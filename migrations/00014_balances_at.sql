-- Balances as they were: the question Polar itself cannot answer.

-- +goose Up
CREATE FUNCTION polar.balances_at(at timestamptz)
RETURNS TABLE (
    customer_meter_id uuid,
    organization_id   uuid,
    customer_id       uuid,
    meter_id          uuid,
    consumed_units    numeric,
    credited_units    bigint,
    balance           numeric,
    observed_at       timestamptz
)
LANGUAGE sql
STABLE
PARALLEL SAFE
AS $$
    SELECT
        m.id,
        m.organization_id,
        m.customer_id,
        m.meter_id,
        h.consumed_units,
        h.credited_units,
        h.balance,
        h.observed_at
    FROM polar.customer_meters m
    CROSS JOIN LATERAL (
        SELECT
            s.consumed_units,
            s.credited_units,
            s.balance,
            s.deleted,
            s.observed_at
        FROM polar.customer_meter_history s
        WHERE s.customer_meter_id = m.id
          AND s.observed_at <= balances_at.at
        ORDER BY s.observed_at DESC
        LIMIT 1
    ) h
    WHERE NOT h.deleted
$$;

COMMENT ON FUNCTION polar.balances_at(timestamptz) IS 'Every balance as it was, as far as syncd had seen, at the given moment; rows that Polar did not have then, or that had not been seen yet, are left out. Reaches back as far as history.keep.';

-- +goose Down
DROP FUNCTION polar.balances_at(timestamptz);
