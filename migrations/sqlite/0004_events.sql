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
