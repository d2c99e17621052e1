-- The job's own tables. Every statement may run again on a database that has them already.

create schema if not exists etl;

-- Message ids already handled: loaded, or in quarantine. "C" so that the database sorts them as
-- Python does; run_id and batch settle a COMMIT whose reply was lost. With another ledger.key than
-- message_id there are fingerprints beside the ids: see etl/ledgerkeys.py.
create table if not exists etl.ledger (
    message_id text collate "C" primary key,
    run_id     uuid        not null,
    batch      integer     not null,
    handled_at timestamptz not null default now()
);

-- Rows arrive in the order of handled_at, so a block range index is enough to prune by, and costs
-- nothing to keep.
create index if not exists ledger_handled_at on etl.ledger using brin (handled_at);

-- Messages that broke a check. The body is sealed: see etl/mask.py.
create table if not exists etl.quarantine (
    quarantine_id  bigint generated always as identity primary key,
    message_id     text collate "C" not null,
    run_id         uuid        not null,
    sent_at        timestamptz,
    quarantined_at timestamptz not null default now(),
    reasons        jsonb       not null,  -- [{"column": ..., "check": ...}, ...]
    body           bytea       not null
);

create index if not exists quarantine_run on etl.quarantine (run_id);

-- One row a run, updated in the transaction of each batch. The counts are deliveries; they add up
-- once finished_at is set. A run that was killed has no finished_at.
create table if not exists etl.runs (
    run_id          uuid primary key,
    started_at      timestamptz not null default now(),
    finished_at     timestamptz,
    received        bigint      not null default 0,
    loaded          bigint      not null default 0,
    already_handled bigint      not null default 0,
    quarantined     bigint      not null default 0,
    released        bigint      not null default 0,
    batches         integer     not null default 0,
    stop_reason     text,
    version         text        not null,
    config_hash     text        not null,
    host            text        not null
);
