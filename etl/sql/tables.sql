-- The tables of all jobs of this database. Every statement can run again on a database that has them
-- already. Two settings of the transaction say which configuration creates or updates them: etl.job,
-- the job's name, and etl.masked_fields, a JSON array of the fields that it masks.

create schema if not exists etl;

-- The jobs that load into this database. The number stands for the name in the ledger, which is large.
create table if not exists etl.jobs (
    job_id        smallint    primary key,  -- from 1
    job           text        collate "C" not null unique,
    registered_at timestamptz not null default now()
);

-- Every column that a job has masked, now or earlier, with the field of the event that it reads: where
-- tokens may be, whichever job asks.
create table if not exists etl.job_columns (
    job           text        collate "C" not null,
    schema_name   text        not null,
    table_name    text        not null,
    column_name   text        not null,
    field         text        not null,
    registered_at timestamptz not null default now(),
    primary key (job, schema_name, table_name, column_name, field)
);

-- Ids of handled messages, by job: loaded, or in quarantine. The collation "C" sorts them as Python
-- does. run_id and batch show whether a COMMIT whose reply was lost took place. If ledger.key is not
-- message_id, fingerprints are stored in addition to the ids: see etl/fingerprints.py. The id comes
-- first in the key, because most comparisons then end within it. The order of the columns wastes no
-- byte on alignment.
create table if not exists etl.ledger (
    message_id text        collate "C" not null,
    run_id     uuid        not null,
    batch      integer     not null,
    job_id     smallint    not null default 0,
    handled_at timestamptz not null default now(),
    primary key (message_id, job_id)
);

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

-- The ids of an earlier version do not say whose they are. They have the number 0 and count for every
-- job until they are older than the retention.
alter table etl.ledger add column if not exists job_id smallint not null default 0;
do $$
begin
    if not exists (
        select from pg_index
        where indrelid = 'etl.ledger'::regclass and indisprimary and indnkeyatts = 2
    ) then
        -- Builds an index, but does not rewrite the table.
        alter table etl.ledger drop constraint ledger_pkey, add primary key (message_id, job_id);
    end if;
end
$$;

-- For pruning, and to see at once that no id has the number 0. A block range index would cost less, but
-- once the space of removed ids has been used again, every block holds old ids and new ones, and such
-- an index would answer with the whole table.
create index if not exists ledger_by_time on etl.ledger (job_id, handled_at);
drop index if exists etl.ledger_handled_at;

-- Each run and each entry belongs to a job. An entry also names the fields of the event that its job
-- masked at that time, so that no replay stores one of them as it came. Rows of an earlier version
-- belong to the job that updates the tables. As defaults of new columns they cost nothing, however
-- many rows there are.
do $$
declare
    job text := quote_literal(current_setting('etl.job'));
    fields text := quote_literal(cast(array(
        select jsonb_array_elements_text(cast(current_setting('etl.masked_fields') as jsonb))
    ) as text));
begin
    execute 'alter table etl.runs add column if not exists job text not null default ' || job;
    execute 'alter table etl.quarantine add column if not exists job text not null default ' || job;
    execute 'alter table etl.quarantine add column if not exists masked_fields text[] not null default '
        || fields;
end
$$;
alter table etl.runs alter column job drop default;
alter table etl.quarantine alter column job drop default, alter column masked_fields drop default;

create index if not exists quarantine_open_of_job on etl.quarantine (job, quarantine_id)
    where body is not null;
drop index if exists etl.quarantine_open;

-- Whoever could enter runs before there were jobs must now be able to enter jobs too.
do $$
declare
    role_name text;
begin
    for role_name in
        select distinct case grantee when 'PUBLIC' then 'public' else quote_ident(grantee) end
        from information_schema.role_table_grants
        where table_schema = 'etl' and table_name = 'runs' and privilege_type = 'INSERT'
    loop
        execute 'grant select, insert on etl.jobs, etl.job_columns to ' || role_name;
    end loop;
end
$$;

-- run, or replay of the quarantine. A replay counts what it took out of the quarantine as received,
-- and what stayed there as quarantined.
alter table etl.runs add column if not exists command text not null default 'run';

-- Why a run ended, in one sentence and as the exit code. What its messages were found to have: the
-- checks that they failed, and the fields that no column reads. Both are lists, the most frequent
-- first: [{"column": ..., "check": ..., "messages": ..., "released": ...}, ...], where released is how
-- many of the messages are back in the queue, and [{"name": ..., "messages": ...}, ...], where a name
-- that is null stands for all that may be personal. The batches add to them. seen_at is the last sign
-- of life of a run that has not finished.
alter table etl.runs
    add column if not exists problem text,
    add column if not exists exit_code smallint,
    add column if not exists failed_checks jsonb not null default '[]',
    add column if not exists unknown_fields jsonb not null default '[]',
    add column if not exists seen_at timestamptz;
-- Of the loaded deliveries: those whose row replaced another one, and those whose row was not stored
-- because of another one with the same key. So loaded - updated - skipped rows were added.
alter table etl.runs
    add column if not exists updated bigint not null default 0,
    add column if not exists skipped bigint not null default 0;
-- Set afterwards, so that earlier runs show no sign of life.
alter table etl.runs alter column seen_at set default now();

-- What was changed in the values of a run's messages, or warned of, without a reject: [{"column": ...,
-- "note": ..., "messages": ...}, ...], the most frequent first. The batches add to it.
alter table etl.runs add column if not exists notes jsonb not null default '[]';

-- Where messages hold several events, what became of the events. A message without an event is handled
-- as well, and counts as already handled.
alter table etl.runs
    add column if not exists events_loaded bigint not null default 0,
    add column if not exists events_already_handled bigint not null default 0,
    add column if not exists events_quarantined bigint not null default 0,
    add column if not exists empty_messages bigint not null default 0;

-- Entries that are only a sample: some messages of the batch that the quarantine's budget refused. The
-- messages themselves are still in the queue. Each budget stop of a job replaces the job's sample. The
-- job's role may not delete from the quarantine, so this function deletes with its owner's rights.
alter table etl.quarantine add column if not exists is_sample boolean not null default false;

create index if not exists quarantine_samples on etl.quarantine (job) where is_sample;

create or replace function etl.remove_samples(of_job text, older_than_days integer) returns bigint
language sql security definer set search_path = pg_catalog, pg_temp as $$
    with removed as (
        delete from etl.quarantine
        where is_sample and job = of_job
          and quarantined_at <= now() - make_interval(days => older_than_days)
        returning quarantine_id
    )
    select count(*) from removed
$$;

-- The checks that the messages of each run failed, including messages that were replayed or discarded
-- later. To read this view, a role needs no right on the quarantine itself.
create or replace view etl.broken_checks as
select run_id, reason ->> 'column' as "column", reason ->> 'check' as "check",
       count(*) as messages, job
from etl.quarantine, jsonb_array_elements(reasons) as reason
where not is_sample
group by 1, 2, 3, 5;

-- Who saw or removed plain values. The row is committed before the first value is shown. The database
-- itself fills in the time and its user; no role may write these two columns.
create table if not exists etl.unmask_audit (
    audit_id    bigint generated always as identity primary key,
    asked_at    timestamptz not null default now(),
    db_user     text        not null default session_user,
    os_user     text        not null,
    host        text        not null,
    action      text        not null,  -- unmask, quarantine show, forget, rollback
    reason      text        not null check (btrim(reason) <> ''),
    scope       text        not null,  -- what it was about, without a value
    columns     text[]      not null,  -- fields of the event
    count       bigint      not null,
    key_id      text        not null,  -- the fingerprint is made with a key derived from this one
    fingerprint text        not null   -- HMAC-SHA-256 of the tokens, see etl/operations/audit.py
);

-- The first use of each key: by which job, for which table, and a value by which the key is recognised,
-- which says nothing about it. A keyring with another key under the same id is refused: see
-- etl/postgres/key_checks.py.
create table if not exists etl.key_checks (
    job           text        not null,
    target        text        not null,  -- schema.table
    key_id        text        not null,
    check_value   text        not null,
    first_used_at timestamptz not null default now(),
    primary key (job, target, key_id)
);

-- How each masked column was first loaded, and each that stores the network of an address only. A
-- configuration that would give equal values other tokens is refused: see etl/postgres/contexts.py.
create table if not exists etl.masked_columns (
    target        text        not null,  -- schema.table
    column_name   text        not null,
    context       text        not null,  -- what its tokens are bound to besides the key
    canonical     boolean     not null,  -- whether addresses are brought into one spelling first
    fields        text[]      not null,  -- of the event, to say in an error which line to write
    job           text        not null,
    first_used_at timestamptz not null default now(),
    primary key (target, column_name)
);

-- What was done to a text before it was masked, in order: "pick first", "strip", ... Before there was
-- such a setting, nothing was.
alter table etl.masked_columns add column if not exists cleaning text[] not null default '{}';
-- Of one-way tokens, the key: it must stay the same, because they cannot be made again under another.
alter table etl.masked_columns
    add column if not exists kind   text not null default 'siv',  -- or hmac, partial, network
    add column if not exists key_id text;  -- null, unless the kind is hmac

-- The fields that each job has dropped, now or earlier, so that none is stored because a line of the
-- configuration is lost: see etl/postgres/once_masked.py.
create table if not exists etl.dropped_fields (
    job           text        not null,
    field         text        not null,  -- of the event
    first_used_at timestamptz not null default now(),
    primary key (job, field)
);

-- Whoever may record masked columns must now be able to record dropped fields too.
do $$
declare
    role_name text;
begin
    for role_name in
        select distinct case grantee when 'PUBLIC' then 'public' else quote_ident(grantee) end
        from information_schema.role_table_grants
        where table_schema = 'etl' and table_name = 'masked_columns' and privilege_type = 'INSERT'
    loop
        execute 'grant select, insert on etl.dropped_fields to ' || role_name;
    end loop;
end
$$;

-- For CHECK constraints on masked columns (table.token_check). It raises an error by itself, because
-- for a CHECK that is merely false Postgres quotes the row, to the client and in the server's log.
create or replace function etl.check_token(value text, constraint_name text) returns boolean
language plpgsql immutable as $$
begin
    if value is null or value ~ '^[A-Za-z0-9_-]{1,16}[.:][A-Za-z0-9_-]{43,}$' then
        return true;
    end if;
    raise exception using
        errcode = 'check_violation', message = 'not a token', constraint = constraint_name;
end
$$;
