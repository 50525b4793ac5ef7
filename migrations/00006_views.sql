-- What people and BI tools read. A time that one of our clocks gave and that is
-- later than now is unknown: the clock was ahead then. The last run is therefore
-- the one with the highest number, and its times count only if they are not later
-- than now.

-- +goose Up
CREATE VIEW polar.sync_status AS
SELECT
    o.id AS organization_id,
    o.name AS organization,
    (SELECT count(*)
       FROM polar.customer_meters m
      WHERE m.organization_id = o.id
        AND m.deleted_at IS NULL
        AND m.out_of_scope_at IS NULL) AS live_rows,
    last_full.started_at AS last_full_started_at,
    last_full.finished_at AS last_full_finished_at,
    last_full.exact AS last_full_exact,
    last_full.method AS last_full_method,
    last_incremental.started_at AS last_incremental_started_at,
    last_incremental.finished_at AS last_incremental_finished_at,
    now() - CASE
        WHEN last_incremental.id > coalesce(last_full.id, 0) THEN last_incremental.started_at
        ELSE last_full.started_at
    END AS lag,
    running.kind AS running,
    running.started_at AS running_since,
    failed.error AS last_error,
    failed.finished_at AS last_error_at,
    failed.kind AS last_error_kind,
    last_full.id AS last_full_id,
    last_full.rows_rejected AS last_full_rejected,
    last_incremental.id AS last_incremental_id,
    last_exact.id AS last_exact_id,
    last_exact.started_at AS last_exact_started_at,
    last_exact.finished_at AS last_exact_finished_at,
    failed_full.n AS full_failures,
    failed_full.finished_at AS full_failed_at,
    webhook.sent_at AS last_webhook_sent_at,
    CASE
        WHEN o.found_change_at < now() - interval '5 minutes'
             AND coalesce(webhook.sent_at < o.found_change_at - interval '10 seconds', true) THEN o.found_change_at
    END AS webhooks_silent_since
FROM polar.organizations o
LEFT JOIN LATERAL (
    SELECT
        r.id,
        CASE WHEN r.started_at <= now() THEN r.started_at END AS started_at,
        CASE WHEN r.finished_at <= now() THEN r.finished_at END AS finished_at,
        r.exact,
        r.method,
        r.rows_rejected
      FROM polar.sync_runs r
     WHERE r.organization_id = o.id AND r.kind = 'full' AND r.status = 'succeeded'
     ORDER BY -r.id
     LIMIT 1
) last_full ON true
LEFT JOIN LATERAL (
    SELECT
        r.id,
        CASE WHEN r.started_at <= now() THEN r.started_at END AS started_at,
        CASE WHEN r.finished_at <= now() THEN r.finished_at END AS finished_at
      FROM polar.sync_runs r
     WHERE r.organization_id = o.id AND r.kind = 'incremental' AND r.status = 'succeeded'
     ORDER BY -r.id
     LIMIT 1
) last_incremental ON true
LEFT JOIN LATERAL (
    SELECT
        r.id,
        CASE WHEN r.started_at <= now() THEN r.started_at END AS started_at,
        CASE WHEN r.finished_at <= now() THEN r.finished_at END AS finished_at
      FROM polar.sync_runs r
     WHERE r.organization_id = o.id AND r.exact AND r.status = 'succeeded'
     ORDER BY -r.id
     LIMIT 1
) last_exact ON true
LEFT JOIN LATERAL (
    SELECT
        r.kind,
        CASE WHEN r.started_at <= now() THEN r.started_at END AS started_at
      FROM polar.sync_runs r
     WHERE r.organization_id = o.id AND r.status = 'running'
     ORDER BY -r.id
     LIMIT 1
) running ON true
LEFT JOIN LATERAL (
    SELECT
        f.kind,
        f.error,
        CASE WHEN f.finished_at <= now() THEN f.finished_at END AS finished_at
      FROM unnest(ARRAY['full', 'incremental', 'repair', 'refresh']) AS k (kind)
     CROSS JOIN LATERAL (
         SELECT
             r.id,
             r.kind,
             r.error,
             r.finished_at
           FROM polar.sync_runs r
          WHERE r.organization_id = o.id AND r.kind = k.kind AND r.status = 'failed'
          ORDER BY -r.id
          LIMIT 1
     ) f
      LEFT JOIN LATERAL (
         SELECT r.id
           FROM polar.sync_runs r
          WHERE r.organization_id = o.id AND r.kind = k.kind AND r.status = 'succeeded'
          ORDER BY -r.id
          LIMIT 1
     ) s ON true
     WHERE f.id > coalesce(greatest(s.id, last_full.id), 0)
     ORDER BY f.id DESC
     LIMIT 1
) failed ON true
CROSS JOIN LATERAL (
    SELECT
        count(*) AS n,
        max(l.finished_at) FILTER (WHERE l.finished_at <= now()) AS finished_at
      FROM (
          SELECT r.finished_at
            FROM polar.sync_runs r
           WHERE r.organization_id = o.id
             AND r.kind = 'full'
             AND r.status = 'failed'
             AND -r.id < -coalesce(last_full.id, 0)
           ORDER BY -r.id
           LIMIT 10
      ) l
) failed_full
LEFT JOIN LATERAL (
    SELECT e.sent_at
      FROM polar.webhook_events e
     WHERE e.organization_id = o.id
     ORDER BY e.sent_at DESC
     LIMIT 1
) webhook ON true;

COMMENT ON VIEW polar.sync_status IS 'Per organization: how current the mirror is, what is running, and the last error. A time that would be later than now is null: the clock that gave it was ahead.';
COMMENT ON COLUMN polar.sync_status.organization_id IS 'Id of the organization at Polar.';
COMMENT ON COLUMN polar.sync_status.organization IS 'Label from the configuration.';
COMMENT ON COLUMN polar.sync_status.live_rows IS 'Customer meters that Polar has and the configured filter lets in.';
COMMENT ON COLUMN polar.sync_status.last_full_started_at IS 'Start of the last successful full run.';
COMMENT ON COLUMN polar.sync_status.last_full_finished_at IS 'End of the last successful full run.';
COMMENT ON COLUMN polar.sync_status.last_full_exact IS 'Whether that run proved that it saw every customer meter.';
COMMENT ON COLUMN polar.sync_status.last_full_method IS 'How it proved that: walk or sweep, as in sync_runs; null if it did not.';
COMMENT ON COLUMN polar.sync_status.last_incremental_started_at IS 'Start of the last successful incremental run.';
COMMENT ON COLUMN polar.sync_status.last_incremental_finished_at IS 'End of the last successful incremental run.';
COMMENT ON COLUMN polar.sync_status.lag IS 'Age of the data: time since the start of the last successful run; null if there was none, or if it is dated later than now.';
COMMENT ON COLUMN polar.sync_status.running IS 'Kind of the run under way; null if there is none.';
COMMENT ON COLUMN polar.sync_status.running_since IS 'Since when it runs.';
COMMENT ON COLUMN polar.sync_status.last_error IS 'Why the last run that failed did so; null once a run of its kind, or a full one, that began later has succeeded.';
COMMENT ON COLUMN polar.sync_status.last_error_at IS 'When it failed.';
COMMENT ON COLUMN polar.sync_status.last_error_kind IS 'Kind of the run that failed so.';
COMMENT ON COLUMN polar.sync_status.last_full_id IS 'Number of the last successful full run; null if there was none.';
COMMENT ON COLUMN polar.sync_status.last_full_rejected IS 'Rows that run could not mirror.';
COMMENT ON COLUMN polar.sync_status.last_incremental_id IS 'Number of the last successful incremental run; null if there was none.';
COMMENT ON COLUMN polar.sync_status.last_exact_id IS 'Number of the last run of any kind that proved that it saw every customer meter; null if there was none.';
COMMENT ON COLUMN polar.sync_status.last_exact_started_at IS 'Start of that run.';
COMMENT ON COLUMN polar.sync_status.last_exact_finished_at IS 'End of that run.';
COMMENT ON COLUMN polar.sync_status.full_failures IS 'Full runs that have failed since the last successful one; not counted beyond 10.';
COMMENT ON COLUMN polar.sync_status.full_failed_at IS 'When the last of them ended.';
COMMENT ON COLUMN polar.sync_status.last_webhook_sent_at IS 'When, by Polar''s clock, the last webhook was sent that arrived, of those of the last 30 days; null if there was none.';
COMMENT ON COLUMN polar.sync_status.webhooks_silent_since IS 'When, by Polar''s clock, the change was made that a run found more than five minutes later and no webhook has announced, nor any other change since; null if webhooks arrive, or if nothing changed.';

-- The flat join that people and BI tools read.
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

-- Balances as they were: the question Polar itself cannot answer.
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

-- Daily usage, from differences between states. Units that go down mean that a
-- billing period began: what stands there then was consumed since. The state before
-- is looked up for each row, so that a condition on the day or on a row reaches the
-- history's indexes; a window function would read all of the history first.
CREATE VIEW polar.usage_daily AS
SELECT
    c.organization_id,
    c.customer_meter_id,
    c.customer_id,
    c.meter_id,
    c.day,
    sum(c.consumed) AS consumed_units,
    sum(c.credited) AS credited_units,
    count(*) FILTER (WHERE c.reset) AS resets,
    (array_agg(c.balance ORDER BY c.observed_at DESC))[1] AS closing_balance
FROM (
    SELECT
        h.organization_id,
        h.customer_meter_id,
        m.customer_id,
        m.meter_id,
        (h.observed_at AT TIME ZONE 'UTC')::date AS day,
        h.observed_at,
        h.balance,
        coalesce(h.consumed_units < p.consumed_units, false) AS reset,
        CASE
            WHEN h.consumed_units >= p.consumed_units
                THEN h.consumed_units - p.consumed_units
            WHEN p.consumed_units IS NOT NULL
                THEN greatest(h.consumed_units, 0)
            WHEN (m.created_at AT TIME ZONE 'UTC')::date = (h.observed_at AT TIME ZONE 'UTC')::date
                THEN h.consumed_units
            ELSE 0
        END AS consumed,
        CASE
            WHEN h.consumed_units < p.consumed_units AND h.credited_units < p.credited_units
                THEN h.credited_units::numeric
            WHEN p.credited_units IS NOT NULL
                THEN h.credited_units::numeric - p.credited_units
            WHEN (m.created_at AT TIME ZONE 'UTC')::date = (h.observed_at AT TIME ZONE 'UTC')::date
                THEN h.credited_units::numeric
            ELSE 0
        END AS credited
    FROM polar.customer_meter_history h
    JOIN polar.customer_meters m ON m.id = h.customer_meter_id
    LEFT JOIN LATERAL (
        SELECT
            s.consumed_units,
            s.credited_units
        FROM polar.customer_meter_history s
        WHERE s.customer_meter_id = h.customer_meter_id
          AND s.observed_at < h.observed_at
        ORDER BY s.observed_at DESC
        LIMIT 1
    ) p ON true
    WHERE h.source <> 'carried'
) c
GROUP BY c.organization_id, c.customer_meter_id, c.customer_id, c.meter_id, c.day;

COMMENT ON VIEW polar.usage_daily IS 'Per customer meter and day (UTC) with a change seen: what was consumed and credited that day, from the history. The first state seen of a row created earlier is where counting begins, and counts nothing itself.';
COMMENT ON COLUMN polar.usage_daily.organization_id IS 'Organization.';
COMMENT ON COLUMN polar.usage_daily.customer_meter_id IS 'Customer meter.';
COMMENT ON COLUMN polar.usage_daily.customer_id IS 'Customer.';
COMMENT ON COLUMN polar.usage_daily.meter_id IS 'Meter.';
COMMENT ON COLUMN polar.usage_daily.day IS 'Day in UTC on which syncd saw the changes.';
COMMENT ON COLUMN polar.usage_daily.consumed_units IS 'Units consumed that day; after a reset, those of the new period. What was consumed between the last look and a reset is not known.';
COMMENT ON COLUMN polar.usage_daily.credited_units IS 'Units credited that day, less those taken back.';
COMMENT ON COLUMN polar.usage_daily.resets IS 'How often consumed units went down.';
COMMENT ON COLUMN polar.usage_daily.closing_balance IS 'Balance after the last change of the day.';

-- Who runs out, and when, at the pace of the last seven days.
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
            THEN now() + round(r.balance / r.units_per_day, 12)::double precision * interval '1 day'
    END AS zero_at
FROM (
    SELECT
        m.organization_id,
        m.id AS customer_meter_id,
        m.customer_id,
        m.meter_id,
        m.balance,
        coalesce(u.units, 0)
            / CASE
                WHEN u.since > now() THEN 7
                ELSE greatest(least(extract(epoch FROM now() - u.since) / 86400, 7), 1.0 / 24)
            END AS units_per_day
    FROM polar.customer_meters m
    LEFT JOIN LATERAL (
        SELECT
            sum(
                CASE
                    WHEN s.consumed_units >= s.previous THEN s.consumed_units - s.previous
                    ELSE greatest(s.consumed_units, 0)
                END) FILTER (WHERE s.previous IS NOT NULL) AS units,
            min(s.observed_at) AS since
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
    ) u ON true
    WHERE m.deleted_at IS NULL
      AND m.out_of_scope_at IS NULL
) r;

COMMENT ON VIEW polar.burn_rate IS 'Per customer meter that Polar has now: the pace of the last 7 days (or since the first state in the history, at least an hour), and when the balance reaches zero at that pace.';
COMMENT ON COLUMN polar.burn_rate.organization_id IS 'Organization.';
COMMENT ON COLUMN polar.burn_rate.customer_meter_id IS 'Customer meter.';
COMMENT ON COLUMN polar.burn_rate.customer_id IS 'Customer.';
COMMENT ON COLUMN polar.burn_rate.meter_id IS 'Meter.';
COMMENT ON COLUMN polar.burn_rate.balance IS 'Balance now.';
COMMENT ON COLUMN polar.burn_rate.units_per_day IS 'Units consumed a day; a reset is not negative usage.';
COMMENT ON COLUMN polar.burn_rate.zero_at IS 'When the balance reaches zero at that pace; null if it is not above zero, nothing is consumed, or it is more than a hundred years away.';

-- +goose Down
DROP VIEW polar.burn_rate;
DROP VIEW polar.usage_daily;
DROP FUNCTION polar.balances_at(timestamptz);
DROP VIEW polar.customer_meter_overview;
DROP VIEW polar.sync_status;
