-- Book-keeping: one row per organization and run. The slot makes replicas that
-- all fire at the same scheduled time agree on one of them.

-- +goose Up
CREATE TABLE polar.sync_runs (
    id              bigint      GENERATED ALWAYS AS IDENTITY,
    organization_id uuid        NOT NULL,
    started_at      timestamptz NOT NULL,
    finished_at     timestamptz,
    slot            timestamptz,
    requests        bigint      NOT NULL DEFAULT 0,
    pages           bigint      NOT NULL DEFAULT 0,
    rows_seen       bigint      NOT NULL DEFAULT 0,
    rows_inserted   bigint      NOT NULL DEFAULT 0,
    rows_updated    bigint      NOT NULL DEFAULT 0,
    rows_unchanged  bigint      NOT NULL DEFAULT 0,
    rows_deleted    bigint      NOT NULL DEFAULT 0,
    rows_rejected   bigint      NOT NULL DEFAULT 0,
    retries         bigint      NOT NULL DEFAULT 0,
    rate_limited    bigint      NOT NULL DEFAULT 0,
    exact           boolean,
    kind            text        NOT NULL,
    status          text        NOT NULL,
    error           text,
    CONSTRAINT sync_runs_pkey PRIMARY KEY (id),
    CONSTRAINT sync_runs_organization_id_fkey FOREIGN KEY (organization_id) REFERENCES polar.organizations (id),
    CONSTRAINT sync_runs_slot_key UNIQUE (organization_id, kind, slot),
    CONSTRAINT sync_runs_kind_known CHECK (kind IN ('full', 'incremental', 'repair')),
    CONSTRAINT sync_runs_status_known CHECK (status IN ('running', 'succeeded', 'failed', 'abandoned')),
    CONSTRAINT sync_runs_finished_when_ended CHECK ((status = 'running') = (finished_at IS NULL))
);

CREATE INDEX sync_runs_started_idx ON polar.sync_runs (organization_id, kind, started_at);

COMMENT ON TABLE polar.sync_runs IS 'One row per organization and run. Incremental runs that found nothing are kept for 7 days, others for 400.';
COMMENT ON COLUMN polar.sync_runs.id IS 'Number of the run.';
COMMENT ON COLUMN polar.sync_runs.organization_id IS 'Organization the run worked on.';
COMMENT ON COLUMN polar.sync_runs.started_at IS 'When the run began.';
COMMENT ON COLUMN polar.sync_runs.finished_at IS 'When the run ended; null while it runs.';
COMMENT ON COLUMN polar.sync_runs.slot IS 'The scheduled time the run answers; null if no schedule asked for it.';
COMMENT ON COLUMN polar.sync_runs.requests IS 'Requests sent to Polar, retries included.';
COMMENT ON COLUMN polar.sync_runs.pages IS 'Pages of the list that were used.';
COMMENT ON COLUMN polar.sync_runs.rows_seen IS 'Rows on those pages: inserted, updated, unchanged and rejected ones.';
COMMENT ON COLUMN polar.sync_runs.rows_inserted IS 'Customer meters that were new.';
COMMENT ON COLUMN polar.sync_runs.rows_updated IS 'Customer meters that had changed.';
COMMENT ON COLUMN polar.sync_runs.rows_unchanged IS 'Customer meters that were seen and left as they are.';
COMMENT ON COLUMN polar.sync_runs.rows_deleted IS 'Customer meters that Polar said it no longer has.';
COMMENT ON COLUMN polar.sync_runs.rows_rejected IS 'Rows that could not be mirrored; see rejected_rows.';
COMMENT ON COLUMN polar.sync_runs.retries IS 'Requests that were sent again.';
COMMENT ON COLUMN polar.sync_runs.rate_limited IS 'Answers 429 from Polar.';
COMMENT ON COLUMN polar.sync_runs.exact IS 'Whether the run proved that it saw every customer meter that existed throughout it; null for runs that do not try.';
COMMENT ON COLUMN polar.sync_runs.kind IS 'full: every page; incremental: what changed; repair: rows that verify found different.';
COMMENT ON COLUMN polar.sync_runs.status IS 'running, succeeded, failed, or abandoned: its process ended without a word.';
COMMENT ON COLUMN polar.sync_runs.error IS 'Why the run failed; null if it did not.';

-- +goose Down
DROP TABLE polar.sync_runs;
