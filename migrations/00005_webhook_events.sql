-- Deliveries from Polar are kept before they are answered, and applied by
-- whichever syncd gets to them: what was answered with 202 is never lost.
-- Columns are ordered by size, so that no row has padding.

-- +goose Up
CREATE TABLE polar.webhook_events (
    organization_id uuid        NOT NULL,
    customer_id     uuid,
    sent_at         timestamptz NOT NULL,
    received_at     timestamptz NOT NULL DEFAULT now(),
    applied_at      timestamptz,
    next_attempt_at timestamptz,
    attempts        integer     NOT NULL DEFAULT 0,
    webhook_id      text        NOT NULL,
    type            text,
    status          text        NOT NULL,
    error           text,
    payload         bytea,
    CONSTRAINT webhook_events_pkey PRIMARY KEY (organization_id, webhook_id),
    CONSTRAINT webhook_events_organization_id_fkey FOREIGN KEY (organization_id) REFERENCES polar.organizations (id),
    CONSTRAINT webhook_events_status_known CHECK (status IN ('pending', 'applied', 'ignored', 'failed')),
    CONSTRAINT webhook_events_pending_can_be_applied CHECK (
        status <> 'pending'
        OR (customer_id IS NOT NULL AND next_attempt_at IS NOT NULL AND payload IS NOT NULL)
    )
);

CREATE INDEX webhook_events_pending_idx ON polar.webhook_events (organization_id, sent_at, received_at) WHERE status = 'pending';
CREATE INDEX webhook_events_sent_at_idx ON polar.webhook_events (organization_id, sent_at);
CREATE INDEX webhook_events_received_at_idx ON polar.webhook_events (received_at);

COMMENT ON TABLE polar.webhook_events IS 'Deliveries received from Polar''s webhooks, kept for 30 days. Those not applied hold personal data.';
COMMENT ON COLUMN polar.webhook_events.organization_id IS 'Organization whose endpoint received the delivery.';
COMMENT ON COLUMN polar.webhook_events.customer_id IS 'Customer the event is about; null if it is about something else or could not be read.';
COMMENT ON COLUMN polar.webhook_events.sent_at IS 'When Polar sent it, as its header webhook-timestamp says, in whole seconds.';
COMMENT ON COLUMN polar.webhook_events.received_at IS 'When syncd received it first; repetitions change nothing.';
COMMENT ON COLUMN polar.webhook_events.applied_at IS 'When it was applied; null if it was not, or not in whole.';
COMMENT ON COLUMN polar.webhook_events.next_attempt_at IS 'When it is to be applied, or tried again; null once it was applied or given up.';
COMMENT ON COLUMN polar.webhook_events.attempts IS 'How often applying it was tried.';
COMMENT ON COLUMN polar.webhook_events.webhook_id IS 'Polar''s header webhook-id: the same for every repetition of one delivery.';
COMMENT ON COLUMN polar.webhook_events.type IS 'Type of the event, such as customer.state_changed; null if it could not be read.';
COMMENT ON COLUMN polar.webhook_events.status IS 'pending: to be applied. applied. ignored: nothing in it concerns the mirror. failed: given up, see error.';
COMMENT ON COLUMN polar.webhook_events.error IS 'Why it was given up, or why the last attempt did not succeed; null if nothing went wrong.';
COMMENT ON COLUMN polar.webhook_events.payload IS 'The body as received, readable with convert_from(payload, ''UTF8''); null once it was applied or ignored.';

-- +goose Down
DROP TABLE polar.webhook_events;
