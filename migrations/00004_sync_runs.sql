-- What runs need and leave behind: one row per organization and run, where an
-- unfinished walk goes on and what it missed, from when on the next incremental
-- run has to look (stored, never derived from the mirror: a newest row says
-- nothing about what was missed before it), rows that could not be mirrored, and
-- when listeners were last told of a change.
--
-- The slot of a run makes replicas that all fire at the same scheduled time agree
-- on one of them.

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
    method          text,
    fingerprint     text,
    error           text,
    CONSTRAINT sync_runs_pkey PRIMARY KEY (id),
    CONSTRAINT sync_runs_organization_id_fkey FOREIGN KEY (organization_id) REFERENCES polar.organizations (id),
    CONSTRAINT sync_runs_slot_key UNIQUE (organization_id, kind, slot),
    CONSTRAINT sync_runs_kind_known CHECK (kind IN ('full', 'incremental', 'repair', 'refresh')),
    CONSTRAINT sync_runs_status_known CHECK (status IN ('running', 'succeeded', 'failed', 'abandoned')),
    CONSTRAINT sync_runs_method_known CHECK (method IN ('sweep', 'walk')),
    CONSTRAINT sync_runs_finished_when_ended CHECK ((status = 'running') = (finished_at IS NULL))
);

CREATE INDEX sync_runs_started_idx ON polar.sync_runs (organization_id, kind, started_at);

-- How an organization stands follows from a few runs among up to half a million.
-- The sign keeps the planner from reading the primary key backward in search of a
-- run that may be far away: only these indexes have the order of -id.
CREATE INDEX sync_runs_last_idx ON polar.sync_runs (organization_id, kind, status, (-id));
CREATE INDEX sync_runs_exact_idx ON polar.sync_runs (organization_id, (-id)) WHERE exact AND status = 'succeeded';
CREATE INDEX sync_runs_running_idx ON polar.sync_runs (organization_id) WHERE status = 'running';

COMMENT ON TABLE polar.sync_runs IS 'One row per organization and run. Incremental runs that found nothing are kept for 7 days, the last one until the next, others for 400 days.';
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
COMMENT ON COLUMN polar.sync_runs.kind IS 'full: every page; incremental: what changed; repair: rows that verify found different; refresh: customers that somebody asked for.';
COMMENT ON COLUMN polar.sync_runs.status IS 'running, succeeded, failed, or abandoned: its process was stopped, or ended without finishing it.';
COMMENT ON COLUMN polar.sync_runs.method IS 'How an exact run proved its claim: walk: by overlapping pages; sweep: by rank; null for runs that are not exact.';
COMMENT ON COLUMN polar.sync_runs.fingerprint IS 'What a run of every page was asked to read (server, filter, versions, excluded fields), and whether it had to walk; null until it ends, and for other runs.';
COMMENT ON COLUMN polar.sync_runs.error IS 'Why the run failed; null if it did not.';
COMMENT ON INDEX polar.sync_runs_last_idx IS 'The last run of each kind and status.';
COMMENT ON INDEX polar.sync_runs_exact_idx IS 'Runs that proved that they saw everything, newest first.';
COMMENT ON INDEX polar.sync_runs_running_idx IS 'Runs under way.';

CREATE TABLE polar.cursors (
    organization_id uuid        NOT NULL,
    polar_began_at  timestamptz,
    saved_at        timestamptz NOT NULL,
    low_created_at  timestamptz NOT NULL,
    low_customer_id uuid        NOT NULL,
    low_meter_id    uuid        NOT NULL,
    low_offset      bigint      NOT NULL,
    total_count     bigint      NOT NULL,
    rows_rejected   bigint      NOT NULL,
    meter_id        uuid,
    customer_id     uuid,
    method          text        NOT NULL,
    fingerprint     text        NOT NULL,
    CONSTRAINT cursors_method_check CHECK (method IN ('walk', 'sweep')),
    CONSTRAINT cursors_pkey PRIMARY KEY (organization_id),
    CONSTRAINT cursors_organization_id_fkey FOREIGN KEY (organization_id) REFERENCES polar.organizations (id)
);

COMMENT ON TABLE polar.cursors IS 'Where an unfinished full run goes on. A walk: everything from the key (low_created_at, low_customer_id, low_meter_id) upward is mirrored. A sweep: first the same of one meter, then all customers up to customer_id.';
COMMENT ON COLUMN polar.cursors.organization_id IS 'Organization.';
COMMENT ON COLUMN polar.cursors.polar_began_at IS 'When the run began, pauses included, by Polar''s clock, or by ours if its answers carry no date.';
COMMENT ON COLUMN polar.cursors.saved_at IS 'When the last block was saved; a cursor older than 24 hours is not used.';
COMMENT ON COLUMN polar.cursors.low_created_at IS 'Lowest key proven so far: creation time.';
COMMENT ON COLUMN polar.cursors.low_customer_id IS 'Lowest key proven so far: customer.';
COMMENT ON COLUMN polar.cursors.low_meter_id IS 'Lowest key proven so far: meter.';
COMMENT ON COLUMN polar.cursors.low_offset IS 'Offset at which that key was last seen, counted from 0; once customers are swept, how many rows were read.';
COMMENT ON COLUMN polar.cursors.total_count IS 'Rows that Polar counted: by its last answer in a walk, by its first in a sweep.';
COMMENT ON COLUMN polar.cursors.rows_rejected IS 'Rows rejected so far; more than none make the walk not exact.';
COMMENT ON COLUMN polar.cursors.meter_id IS 'Meter that is walked before the customers are swept; null for a walk of everything.';
COMMENT ON COLUMN polar.cursors.customer_id IS 'Last customer swept; null before the first.';
COMMENT ON COLUMN polar.cursors.method IS 'How the run reads: walk or sweep.';
COMMENT ON COLUMN polar.cursors.fingerprint IS 'What the run was asked to read, as in sync_runs; another one begins anew.';

CREATE TABLE polar.suspects (
    organization_id   uuid NOT NULL,
    customer_meter_id uuid NOT NULL,
    meter_id          uuid NOT NULL,
    answer            text,
    CONSTRAINT suspects_answer_check CHECK (answer IN ('gone', 'unlisted')),
    CONSTRAINT suspects_pkey PRIMARY KEY (organization_id, customer_meter_id)
);

COMMENT ON TABLE polar.suspects IS 'Live customer meters that the current full run did not find in Polar''s list, until Polar has been asked for each.';
COMMENT ON COLUMN polar.suspects.organization_id IS 'Organization.';
COMMENT ON COLUMN polar.suspects.customer_meter_id IS 'Customer meter that was not listed.';
COMMENT ON COLUMN polar.suspects.meter_id IS 'Its meter; an archived meter explains all its suspects.';
COMMENT ON COLUMN polar.suspects.answer IS 'What Polar answered when asked for it: gone (404), or unlisted (it has the row, and lists do not show it). Null if it was not asked yet.';

CREATE TABLE polar.tick_floors (
    organization_id uuid        NOT NULL,
    floor_at        timestamptz NOT NULL,
    null_rows       bigint,
    CONSTRAINT tick_floors_pkey PRIMARY KEY (organization_id),
    CONSTRAINT tick_floors_organization_id_fkey FOREIGN KEY (organization_id) REFERENCES polar.organizations (id)
);

COMMENT ON TABLE polar.tick_floors IS 'Per organization, the moment before which nothing can have changed unseen.';
COMMENT ON COLUMN polar.tick_floors.organization_id IS 'Organization.';
COMMENT ON COLUMN polar.tick_floors.floor_at IS 'When, by Polar''s clock, the last successful run began.';
COMMENT ON COLUMN polar.tick_floors.null_rows IS 'How many rows without modified_at Polar listed then; a hint where changed rows begin. Null if not known.';

CREATE TABLE polar.rejected_rows (
    id                bigint      GENERATED ALWAYS AS IDENTITY,
    organization_id   uuid        NOT NULL,
    run_id            bigint      NOT NULL,
    page              bigint      NOT NULL,
    customer_meter_id uuid,
    created_at        timestamptz,
    customer_id       uuid,
    meter_id          uuid,
    seen_at           timestamptz NOT NULL,
    digest            bytea       NOT NULL,
    reason            text        NOT NULL,
    raw               text        NOT NULL,
    CONSTRAINT rejected_rows_pkey PRIMARY KEY (id),
    CONSTRAINT rejected_rows_organization_id_fkey FOREIGN KEY (organization_id) REFERENCES polar.organizations (id),
    CONSTRAINT rejected_rows_digest_key UNIQUE (organization_id, digest)
);

COMMENT ON TABLE polar.rejected_rows IS 'Rows from Polar that could not be mirrored, with the reason. Holds personal data; kept for 30 days after the last sight.';
COMMENT ON COLUMN polar.rejected_rows.id IS 'Number of the rejection.';
COMMENT ON COLUMN polar.rejected_rows.organization_id IS 'Organization whose list held the row.';
COMMENT ON COLUMN polar.rejected_rows.run_id IS 'Run that last recorded it.';
COMMENT ON COLUMN polar.rejected_rows.page IS 'Offset in the list of the page that held it, counted from 0.';
COMMENT ON COLUMN polar.rejected_rows.customer_meter_id IS 'Id of the customer meter; null if it could not be read.';
COMMENT ON COLUMN polar.rejected_rows.created_at IS 'When Polar created the customer meter; null if its place in the list could not be read.';
COMMENT ON COLUMN polar.rejected_rows.customer_id IS 'Its customer; null if its place in the list could not be read.';
COMMENT ON COLUMN polar.rejected_rows.meter_id IS 'Its meter; null if its place in the list could not be read.';
COMMENT ON COLUMN polar.rejected_rows.seen_at IS 'When it was last recorded; renewed once a day while Polar keeps sending it.';
COMMENT ON COLUMN polar.rejected_rows.digest IS 'First 16 bytes of the SHA-256 of the row as sent, so that each walk does not add it again.';
COMMENT ON COLUMN polar.rejected_rows.reason IS 'Which field was unusable, and why.';
COMMENT ON COLUMN polar.rejected_rows.raw IS 'The row as sent; bytes that are no UTF-8, and U+0000, as U+FFFD; of more than 64 KiB the beginning, and how many bytes there were.';

CREATE TABLE polar.backfills (
    id          bigint      GENERATED ALWAYS AS IDENTITY,
    started_at  timestamptz NOT NULL,
    finished_at timestamptz,
    CONSTRAINT backfills_pkey PRIMARY KEY (id)
);

COMMENT ON TABLE polar.backfills IS 'Calls of syncd --backfill. One that was cut short is resumed by the next call within 24 hours, except for organizations of which the configuration asks for something else by then.';
COMMENT ON COLUMN polar.backfills.id IS 'Number of the backfill.';
COMMENT ON COLUMN polar.backfills.started_at IS 'When it began, calls that were cut short included.';
COMMENT ON COLUMN polar.backfills.finished_at IS 'When it came to its end, whether it succeeded or not; null if it was cut short.';

CREATE TABLE polar.notifications (
    organization_id uuid        NOT NULL,
    sent_at         timestamptz NOT NULL,
    CONSTRAINT notifications_pkey PRIMARY KEY (organization_id),
    CONSTRAINT notifications_organization_id_fkey FOREIGN KEY (organization_id) REFERENCES polar.organizations (id)
) WITH (fillfactor = 50);

COMMENT ON TABLE polar.notifications IS 'When listeners on channel polar_customer_meters were last told, so that all replicas together tell them at most once a second.';
COMMENT ON COLUMN polar.notifications.organization_id IS 'Organization whose customer meters changed.';
COMMENT ON COLUMN polar.notifications.sent_at IS 'When they were told.';

-- +goose Down
DROP TABLE polar.notifications;
DROP TABLE polar.backfills;
DROP TABLE polar.rejected_rows;
DROP TABLE polar.tick_floors;
DROP TABLE polar.suspects;
DROP TABLE polar.cursors;
DROP TABLE polar.sync_runs;
