-- One glance: is each organization's mirror current, and if not, why.

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
    last_incremental.started_at AS last_incremental_started_at,
    last_incremental.finished_at AS last_incremental_finished_at,
    now() - greatest(last_full.started_at, last_incremental.started_at) AS lag,
    running.kind AS running,
    running.started_at AS running_since,
    last_ended.error AS last_error,
    CASE WHEN last_ended.error IS NOT NULL THEN last_ended.finished_at END AS last_error_at
FROM polar.organizations o
LEFT JOIN LATERAL (
    SELECT r.started_at, r.finished_at, r.exact
      FROM polar.sync_runs r
     WHERE r.organization_id = o.id AND r.kind = 'full' AND r.status = 'succeeded'
     ORDER BY r.started_at DESC
     LIMIT 1
) last_full ON true
LEFT JOIN LATERAL (
    SELECT r.started_at, r.finished_at
      FROM polar.sync_runs r
     WHERE r.organization_id = o.id AND r.kind = 'incremental' AND r.status = 'succeeded'
     ORDER BY r.started_at DESC
     LIMIT 1
) last_incremental ON true
LEFT JOIN LATERAL (
    SELECT r.kind, r.started_at
      FROM polar.sync_runs r
     WHERE r.organization_id = o.id AND r.status = 'running'
     ORDER BY r.started_at DESC
     LIMIT 1
) running ON true
LEFT JOIN LATERAL (
    SELECT r.error, r.finished_at
      FROM polar.sync_runs r
     WHERE r.organization_id = o.id
       AND r.status = 'failed'
       AND NOT EXISTS (
           SELECT
             FROM polar.sync_runs n
            WHERE n.organization_id = o.id
              AND n.status = 'succeeded'
              AND n.kind IN (r.kind, 'full')
              AND n.started_at > r.started_at
       )
     ORDER BY r.finished_at DESC
     LIMIT 1
) last_ended ON true;

COMMENT ON VIEW polar.sync_status IS 'Per organization: how current the mirror is, what is running, and the last error.';
COMMENT ON COLUMN polar.sync_status.organization_id IS 'Id of the organization at Polar.';
COMMENT ON COLUMN polar.sync_status.organization IS 'Label from the configuration.';
COMMENT ON COLUMN polar.sync_status.live_rows IS 'Customer meters that Polar has and the configured filter lets in.';
COMMENT ON COLUMN polar.sync_status.last_full_started_at IS 'Start of the last successful full run.';
COMMENT ON COLUMN polar.sync_status.last_full_finished_at IS 'End of the last successful full run.';
COMMENT ON COLUMN polar.sync_status.last_full_exact IS 'Whether that run proved that it saw every customer meter.';
COMMENT ON COLUMN polar.sync_status.last_incremental_started_at IS 'Start of the last successful incremental run.';
COMMENT ON COLUMN polar.sync_status.last_incremental_finished_at IS 'End of the last successful incremental run.';
COMMENT ON COLUMN polar.sync_status.lag IS 'Age of the data: time since the start of the last successful run; null if there was none.';
COMMENT ON COLUMN polar.sync_status.running IS 'Kind of the run under way; null if there is none.';
COMMENT ON COLUMN polar.sync_status.running_since IS 'Since when it runs.';
COMMENT ON COLUMN polar.sync_status.last_error IS 'Why the last run that failed did so; null once a run of its kind, or a full one, has succeeded since.';
COMMENT ON COLUMN polar.sync_status.last_error_at IS 'When it failed.';

-- +goose Down
DROP VIEW polar.sync_status;
