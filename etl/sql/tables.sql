-- The job's own tables. Every statement may run again on a database that has them already.

create schema if not exists etl;

-- Message ids already handled: loaded, or in quarantine. "C" so that the database sorts them as
-- Python does; run_id and batch settle a COMMIT whose reply was lost. With another ledger.key than
-- message_id there are fingerprints beside the ids: see etl/fingerprints.py.
create table if not exists etl.ledger (
    message_id text collate "C" primary key,
    run_id     uuid        not null,
    batch      integer     not null,
    handled_at timestamptz not null default now()
);

-- Rows arrive in the order of handled_at, so a block range index is enough to prune by, and costs
-- nothing to keep.
create index if not exists ledger_handled_at on etl.ledger using brin (handled_at);

-- Messages that broke a check. The body is sealed: see etl/crypto/seal.py.
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

-- From here on: what databases of earlier versions lack.

-- An entry of the quarantine is open while it has its body. Closed it stays as a tombstone that
-- says what became of it: replayed, discarded or forgotten.
alter table etl.quarantine
    alter column body drop not null,
    add column if not exists closed_at timestamptz,
    add column if not exists closed_as text,
    add column if not exists closed_by text,  -- the database user
    add column if not exists note text;

alter table etl.quarantine drop constraint if exists quarantine_open_or_closed;
alter table etl.quarantine add constraint quarantine_open_or_closed check (
    (body is null) = (closed_as is not null) and (body is null) = (closed_at is not null)
);

create index if not exists quarantine_open on etl.quarantine (quarantine_id) where body is not null;

-- run, or replay of the quarantine. A replay has received what it took out of the quarantine, and
-- has quarantined again what stayed there.
alter table etl.runs add column if not exists command text not null default 'run';

-- Which checks the messages of each run broke; what was replayed or discarded counts too. Whoever
-- may read this needs to see nothing of the quarantine itself.
create or replace view etl.broken_checks as
select run_id, reason ->> 'column' as "column", reason ->> 'check' as "check",
       count(*) as messages
from etl.quarantine, jsonb_array_elements(reasons) as reason
group by 1, 2, 3;

-- Who saw or removed plain values. The row is committed before the first value is shown. When and
-- by which database user are the database's own words: no role may write these columns.
create table if not exists etl.unmask_audit (
    audit_id    bigint generated always as identity primary key,
    asked_at    timestamptz not null default now(),
    db_user     text        not null default session_user,
    os_user     text        not null,
    host        text        not null,
    action      text        not null,  -- unmask, quarantine show, forget
    reason      text        not null check (btrim(reason) <> ''),
    scope       text        not null,  -- what it was about; no value
    columns     text[]      not null,  -- fields of the event
    count       bigint      not null,
    key_id      text        not null,  -- whose derived key made the fingerprint
    fingerprint text        not null   -- HMAC-SHA-256 of the tokens, see etl/operations/audit.py
);

-- For CHECK constraints on masked columns (table.token_check). It raises by itself: a CHECK that
-- only says false makes Postgres quote the row, to the client and in the server's log.
create or replace function etl.check_token(value text, constraint_name text) returns boolean
language plpgsql immutable as $$
begin
    if value is null or value ~ '^[A-Za-z0-9_-]{1,16}\.[A-Za-z0-9_-]{43,}$' then
        return true;
    end if;
    raise exception using
        errcode = 'check_violation', message = 'not a token', constraint = constraint_name;
end
$$;
