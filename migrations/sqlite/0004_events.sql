-- What the relay to Kafka reads, and the registrations that a user service may refuse.

-- Not "number > the last one": on PostgreSQL numbers are not in commit order.
CREATE INDEX outbox_unpublished ON outbox (number) WHERE published_at IS NULL;

-- A registration whose account the user service may refuse. The row outlives the account.
CREATE TABLE sagas (
    id             TEXT   NOT NULL PRIMARY KEY,
    kind           TEXT   NOT NULL,             -- 'registration'
    user_id        TEXT   NOT NULL,
    correlation_id TEXT,
    state          TEXT   NOT NULL,             -- model::saga::SagaState
    step           TEXT   NOT NULL,             -- 'publish', 'answer'; 'create', 'delete' (gRPC); 'none'
    attempts       BIGINT NOT NULL,
    next_at        BIGINT NOT NULL,             -- when something is due, at the latest
    lease_until    BIGINT,                      -- a process works on it until then
    created_at     BIGINT NOT NULL,
    closed_at      BIGINT
);
CREATE UNIQUE INDEX sagas_user_id ON sagas (user_id, kind);
CREATE INDEX sagas_open ON sagas (next_at) WHERE closed_at IS NULL;
CREATE INDEX sagas_closed_at ON sagas (closed_at) WHERE closed_at IS NOT NULL;

-- As `outbox_unpublished`, for webhooks.
CREATE INDEX outbox_unqueued ON outbox (number) WHERE webhooks_at IS NULL;

-- Endpoints that events are posted to.
CREATE TABLE webhooks (
    id                    TEXT   NOT NULL PRIMARY KEY,
    url                   TEXT   NOT NULL,
    description           TEXT   NOT NULL,
    event_types           TEXT   NOT NULL,      -- JSON array; empty: every type
    secret                TEXT   NOT NULL,      -- JWE under the master key
    old_secret            TEXT,                 -- signs as well until it expires
    old_secret_expires_at BIGINT,
    failures              BIGINT NOT NULL,      -- failed attempts since the last success
    failing_since         BIGINT,
    retry_at              BIGINT NOT NULL,      -- nothing is sent before
    created_at            BIGINT NOT NULL,
    updated_at            BIGINT NOT NULL,      -- by an operator, or disabled
    disabled_at           BIGINT,
    disabled_for          TEXT                  -- model::webhook::DisabledFor
);

-- Written when an event is queued for an endpoint: a cursor would skip events whose transactions
-- commit late.
CREATE TABLE webhook_deliveries (
    number          INTEGER PRIMARY KEY AUTOINCREMENT,
    webhook_id      TEXT   NOT NULL REFERENCES webhooks (id) ON DELETE CASCADE,
    event_id        TEXT   NOT NULL,            -- the data are in the outbox only
    event_type      TEXT   NOT NULL,
    state           TEXT   NOT NULL,            -- model::webhook::DeliveryState
    attempts        BIGINT NOT NULL,
    next_attempt_at BIGINT NOT NULL,            -- moved forward by the lease of an attempt
    created_at      BIGINT NOT NULL,
    expires_at      BIGINT NOT NULL,            -- abandoned then
    attempted_at    BIGINT,
    status          BIGINT,                     -- HTTP status of the last attempt
    error           TEXT,                       -- why the last attempt failed
    finished_at     BIGINT
);
CREATE UNIQUE INDEX webhook_deliveries_event ON webhook_deliveries (webhook_id, event_id);
CREATE INDEX webhook_deliveries_page ON webhook_deliveries (webhook_id, number);
CREATE INDEX webhook_deliveries_due ON webhook_deliveries (webhook_id, next_attempt_at) WHERE state = 'pending';
CREATE INDEX webhook_deliveries_pending ON webhook_deliveries (event_id) WHERE state = 'pending';
CREATE INDEX webhook_deliveries_expires_at ON webhook_deliveries (expires_at) WHERE state = 'pending';
CREATE INDEX webhook_deliveries_finished_at ON webhook_deliveries (finished_at) WHERE finished_at IS NOT NULL;
