-- A time that one of our clocks gave and that is later than now is unknown: the
-- clock was ahead then. The last run is therefore the one with the highest
-- number, and not the one with the latest time, and its times count only if they
-- are not later than now.

-- +goose Up

-- The sign keeps the planner from reading the primary key backward in search of
-- a run that may be far away: only this index has the order of -id.
CREATE INDEX sync_runs_last_idx ON polar.sync_runs (organization_id, kind, status, (-id));
DROP INDEX polar.sync_runs_failed_idx;
DROP INDEX polar.sync_runs_exact_idx;
CREATE INDEX sync_runs_exact_idx ON polar.sync_runs (organization_id, (-id)) WHERE exact AND status = 'succeeded';

COMMENT ON INDEX polar.sync_runs_last_idx IS 'The last run of each kind and status.';
COMMENT ON INDEX polar.sync_runs_exact_idx IS 'Runs that proved that they saw everything, newest first.';

CREATE OR REPLACE VIEW polar.sync_status AS
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
    failed_full.finished_at AS full_failed_at
FROM polar.organizations o
LEFT JOIN LATERAL (
    SELECT
        r.id,
        CASE WHEN r.started_at <= now() THEN r.started_at END AS started_at,
        CASE WHEN r.finished_at <= now() THEN r.finished_at END AS finished_at,
        r.exact,
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
) failed_full;

COMMENT ON VIEW polar.sync_status IS 'Per organization: how current the mirror is, what is running, and the last error. A time that would be later than now is null: the clock that gave it was ahead.';
COMMENT ON COLUMN polar.sync_status.lag IS 'Age of the data: time since the start of the last successful run; null if there was none, or if it is dated later than now.';
COMMENT ON COLUMN polar.sync_status.last_error_kind IS 'Kind of the run that failed so.';
COMMENT ON COLUMN polar.sync_status.last_full_id IS 'Number of the last successful full run; null if there was none.';
COMMENT ON COLUMN polar.sync_status.last_full_rejected IS 'Rows that run could not mirror.';
COMMENT ON COLUMN polar.sync_status.last_incremental_id IS 'Number of the last successful incremental run; null if there was none.';
COMMENT ON COLUMN polar.sync_status.last_exact_id IS 'Number of the last run of any kind that proved that it saw every customer meter; null if there was none.';
COMMENT ON COLUMN polar.sync_status.last_exact_started_at IS 'Start of that run.';
COMMENT ON COLUMN polar.sync_status.last_exact_finished_at IS 'End of that run.';
COMMENT ON COLUMN polar.sync_status.full_failures IS 'Full runs that have failed since the last successful one; not counted beyond 10.';
COMMENT ON COLUMN polar.sync_status.full_failed_at IS 'When the last of them ended.';

CREATE OR REPLACE VIEW polar.burn_rate AS
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
            / CASE
                WHEN m.first_seen_at > now() THEN 7
                ELSE greatest(least(extract(epoch FROM now() - m.first_seen_at) / 86400, 7), 1.0 / 24)
            END AS units_per_day
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

-- +goose Down
-- The views stay: an older syncd reads the columns that it knows.
DROP INDEX polar.sync_runs_last_idx;
DROP INDEX polar.sync_runs_exact_idx;
CREATE INDEX sync_runs_failed_idx ON polar.sync_runs (organization_id, finished_at) WHERE status = 'failed';
CREATE INDEX sync_runs_exact_idx ON polar.sync_runs (organization_id, started_at) WHERE exact;
