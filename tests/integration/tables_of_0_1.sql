-- The job's own tables. Every statement can run again on a database that has them already.

create schema if not exists etl;

-- Ids of handled messages: loaded, or in quarantine. The collation "C" sorts them as Python does.
-- run_id and batch show whether a COMMIT whose reply was lost took place. If ledger.key is not
-- message_id, fingerprints are stored in addition to the ids: see etl/fingerprints.py.
create table if not exists etl.ledger (
    message_id text collate "C" primary key,
    run_id     uuid        not null,
    batch      integer     not null,
    handled_at timestamptz not null default now()
);

-- Rows arrive in the order of handled_at. So a block range index is enough for pruning, and it costs
-- next to nothing to maintain.
create index if not exists ledger_handled_at on etl.ledger using brin (handled_at);

-- Messages that failed a check. Their bodies are sealed: see etl/crypto/seal.py.
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

-- One row for each run, updated in the transaction of each batch. The counts are deliveries. They add
-- up once finished_at is set; a run that was killed has no finished_at.
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

-- The rest is what databases of earlier versions lack.

-- An entry of the quarantine is open as long as it has its body. A closed entry stays as a tombstone
-- that says what happened to it: replayed, already handled, discarded or forgotten.
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

-- run, or replay of the quarantine. A replay counts what it took out of the quarantine as received,
-- and what stayed there as quarantined.
alter table etl.runs add column if not exists command text not null default 'run';

-- The checks that the messages of each run failed, including messages that were replayed or discarded
-- later. To read this view, a role needs no right on the quarantine itself.
create or replace view etl.broken_checks as
select run_id, reason ->> 'column' as "column", reason ->> 'check' as "check",
       count(*) as messages
from etl.quarantine, jsonb_array_elements(reasons) as reason
group by 1, 2, 3;

-- Who saw or removed plain values. The row is committed before the first value is shown. The database
-- itself fills in the time and its user; no role may write these two columns.
create table if not exists etl.unmask_audit (
    audit_id    bigint generated always as identity primary key,
    asked_at    timestamptz not null default now(),
    db_user     text        not null default session_user,
    os_user     text        not null,
    host        text        not null,
    action      text        not null,  -- unmask, quarantine show, forget
    reason      text        not null check (btrim(reason) <> ''),
    scope       text        not null,  -- what it was about, without a value
    columns     text[]      not null,  -- fields of the event
    count       bigint      not null,
    key_id      text        not null,  -- the fingerprint is made with a key derived from this one
    fingerprint text        not null   -- HMAC-SHA-256 of the tokens, see etl/operations/audit.py
);

-- For CHECK constraints on masked columns (table.token_check). It raises an error by itself, because
-- for a CHECK that is merely false Postgres quotes the row, to the client and in the server's log.
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
