-- Who asks how an organization stands wants the few runs that are under way,
-- failed or exact, among up to half a million of its runs.

-- +goose Up
CREATE INDEX sync_runs_running_idx ON polar.sync_runs (organization_id) WHERE status = 'running';
CREATE INDEX sync_runs_failed_idx ON polar.sync_runs (organization_id, finished_at) WHERE status = 'failed';
CREATE INDEX sync_runs_exact_idx ON polar.sync_runs (organization_id, started_at) WHERE exact;

COMMENT ON INDEX polar.sync_runs_running_idx IS 'Runs under way.';
COMMENT ON INDEX polar.sync_runs_failed_idx IS 'Runs that failed, newest last.';
COMMENT ON INDEX polar.sync_runs_exact_idx IS 'Runs that proved that they saw everything, newest last.';

-- +goose Down
DROP INDEX polar.sync_runs_running_idx;
DROP INDEX polar.sync_runs_failed_idx;
DROP INDEX polar.sync_runs_exact_idx;
