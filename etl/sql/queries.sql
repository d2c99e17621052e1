-- The name of each query is between dashes; its purpose follows.

-- own_columns --
-- The columns of the job's own tables and view, and its functions. The catalogue is open to every role.
select c.relname, a.attname
from pg_attribute a join pg_class c on c.oid = a.attrelid
where c.relnamespace = to_regnamespace('etl') and c.relkind in ('r', 'v') and a.attnum > 0
  and not a.attisdropped
union all
select proname, '()' from pg_proc where pronamespace = to_regnamespace('etl')

-- configure_tables --
-- Tell tables.sql, for this transaction, which configuration it runs for.
select set_config('etl.job', :job, true), set_config('etl.masked_fields', :masked_fields, true)

-- is_known_job --
-- Whether a job is registered.
select exists (select from etl.jobs where job = :job)

-- lock_jobs --
-- Let other new jobs wait until this transaction has ended.
select pg_advisory_xact_lock(hashtext('etl.jobs'))

-- register_job --
-- Give a job that is not registered the next number.
insert into etl.jobs (job_id, job)
select coalesce(max(job_id), 0) + 1, :job from etl.jobs
having coalesce(bool_and(job <> :job), true)

-- register_columns --
-- Remember that these columns of a table may hold tokens of these fields.
insert into etl.job_columns (job, schema_name, table_name, column_name, field)
select :job, :schema, :table, * from unnest(cast(:columns as text[]), cast(:fields as text[]))
on conflict do nothing

-- columns_of_earlier_configurations --
-- The columns that a job has masked and that still exist, except these columns of this table.
select schema_name as schema, table_name as table, column_name as column
from etl.job_columns
join pg_namespace on nspname = schema_name
join pg_class on relnamespace = pg_namespace.oid and relname = table_name
join pg_attribute on attrelid = pg_class.oid and attname = column_name and not attisdropped
where job = :job and not (
    schema_name = :schema and table_name = :table and column_name = any(cast(:columns as text[]))
)
group by 1, 2, 3
order by 1, 2, 3

-- other_jobs --
-- The other jobs of this database, in order.
select job from etl.jobs where job <> :job order by job

-- registered_fields --
-- The fields that a job masks, or has masked earlier.
select distinct field from etl.job_columns where job = :job

-- unlogged_tables --
-- The job's own tables, the target and its partitions, if a crash of the server would empty them. The
-- target is looked up in the catalogue: its name as a regclass needs a right on its schema.
with target as (
    select pg_class.oid
    from pg_class join pg_namespace on pg_namespace.oid = relnamespace
    where nspname = :schema and relname = :table
)
select cast(nspname as text) as schema, cast(relname as text) as name
from pg_class join pg_namespace on pg_namespace.oid = relnamespace
where relpersistence = 'u' and relkind in ('r', 'p')
  and (nspname = 'etl' and relname in ('ledger', 'quarantine', 'runs', 'jobs', 'job_columns',
                                       'unmask_audit', 'key_checks', 'masked_columns',
                                       'dropped_fields')
       or pg_class.oid in (select oid from target)
       or pg_class.oid in (select relid from target, pg_partition_tree(target.oid)))
order by 1, 2

-- estimated_ids --
-- About how many ids the ledger has: what the server has counted since it last started after a crash,
-- or else what it found when it last looked. Null if it has done neither.
select coalesce(nullif(pg_stat_get_live_tuples(oid), 0), cast(nullif(reltuples, -1) as bigint))
from pg_class where oid = to_regclass('etl.ledger')

-- claim_messages --
-- Enter the ids that are new to the run's job, and return them. Returns null if all of them are new:
-- in the usual case no id has to travel back. The ids arrive sorted, so that two workers with the same
-- messages wait for each other instead of deadlocking. Ids of job 0 are from an earlier version and
-- count for every job; while there are none, no id is looked for among them.
with fresh as (
    insert into etl.ledger (message_id, run_id, batch, job_id)
    select message_id, cast(:run_id as uuid), :batch, coalesce(
        (select job_id from etl.jobs join etl.runs using (job) where run_id = cast(:run_id as uuid)), 0
    )
    from jsonb_array_elements_text(cast(:message_ids as jsonb)) as ids (message_id)
    where not (select exists (select from etl.ledger where job_id = 0)) or not exists (
        select from etl.ledger as earlier
        where earlier.message_id = ids.message_id and earlier.job_id = 0
    )
    on conflict (message_id, job_id) do nothing
    returning message_id
)
select case when count(*) < :id_count then coalesce(array_agg(message_id), '{}') end from fresh

-- free_keys --
-- Remove keys that the run has claimed in this transaction and whose rows were refused.
delete from etl.ledger
where message_id in (select jsonb_array_elements_text(cast(:keys as jsonb)))
  and run_id = cast(:run_id as uuid)

-- committed_before --
-- Whether an earlier attempt at this same batch was committed after all.
select exists (
    select from etl.ledger
    where message_id in (select jsonb_array_elements_text(cast(:message_ids as jsonb)))
      and run_id = cast(:run_id as uuid) and batch = :batch
)

-- prune_ledger --
-- Remove some of the job's ids that are older than its retention, and of those of an earlier version.
delete from etl.ledger
where ctid = any (array (
    select ctid from etl.ledger
    where handled_at < now() - make_interval(days => :retention_days)
      and job_id in (0, (select job_id from etl.jobs where job = :job))
    limit :limit
))

-- start_run --
-- Enter a run. Entering it again, after a lost reply to COMMIT, changes nothing.
insert into etl.runs (run_id, job, command, version, config_hash, host)
values (:run_id, :job, :command, :version, :config_hash, :host)
on conflict do nothing

-- add_to_run --
-- Add a batch's counts. Several workers add to one row, so these are differences. The numbers that
-- finish_run sets at the end are absolute.
update etl.runs
set received = received + :received, loaded = loaded + :loaded,
    already_handled = already_handled + :already_handled,
    quarantined = quarantined + :quarantined, released = released + :released,
    updated = updated + :updated, skipped = skipped + :skipped, batches = batches + 1
where run_id = :run_id

-- add_events_to_run --
-- Add what became of the events of a batch whose messages are split.
update etl.runs
set events_loaded = events_loaded + :loaded,
    events_already_handled = events_already_handled + :already_handled,
    events_quarantined = events_quarantined + :quarantined,
    empty_messages = empty_messages + :empty_messages
where run_id = :run_id

-- add_findings --
-- Add to a run what its messages were found to have. Of the unknown fields, the most frequent keep
-- their names.
update etl.runs
set failed_checks = (
        select coalesce(jsonb_agg(summed order by messages desc, "column", "check"), '[]')
        from (
            select "column", "check", sum(messages) as messages, sum(released) as released
            from jsonb_to_recordset(failed_checks || cast(:failed_checks as jsonb))
                as found ("column" text, "check" text, messages bigint, released bigint)
            group by 1, 2
        ) as summed
    ),
    unknown_fields = (
        select coalesce(jsonb_agg(kept order by name is null, messages desc, name), '[]')
        from (
            select case when place <= :max_names then name end as name, sum(messages) as messages
            from (
                select name, sum(messages) as messages,
                       row_number() over (order by name is null, sum(messages) desc, name) as place
                from jsonb_to_recordset(unknown_fields || cast(:unknown_fields as jsonb))
                    as found (name text, messages bigint)
                group by name
            ) as summed
            group by 1
        ) as kept
    ),
    notes = (
        select coalesce(jsonb_agg(summed order by messages desc, "column", note), '[]')
        from (
            select "column", note, sum(messages) as messages
            from jsonb_to_recordset(notes || cast(:notes as jsonb))
                as found ("column" text, note text, messages bigint)
            group by 1, 2
        ) as summed
    )
where run_id = :run_id

-- give_sign_of_life --
-- Note that a run is alive. This waits for no batch that is adding its counts to the row. Nor does it
-- hold the row while it waits for a disk or a standby, and it gives up a wait for the table's lock by
-- itself: the session of a client that has given up would go on waiting. Both statements are sent
-- together, and so they are one transaction.
select set_config('lock_timeout', :lock_timeout, true), set_config('synchronous_commit', 'off', true);
update etl.runs set seen_at = now()
where run_id = (
    select run_id from etl.runs where run_id = :run_id for no key update skip locked
)

-- run_counts --
-- The committed counts of a run.
select received, loaded, already_handled, quarantined, released, updated, skipped, batches
from etl.runs where run_id = :run_id

-- run_events --
-- What became of the events of a run whose messages are split.
select events_loaded, events_already_handled, events_quarantined, empty_messages
from etl.runs where run_id = :run_id

-- finish_run --
-- Set the final counts of a run, when it ended, and why.
update etl.runs
set received = :received, loaded = :loaded, already_handled = :already_handled,
    quarantined = :quarantined, released = :released, updated = :updated, skipped = :skipped,
    batches = :batches,
    finished_at = now(), stop_reason = :stop_reason, problem = :problem, exit_code = :exit_code
where run_id = :run_id

-- refused_look --
-- When a look at the queue was refused, if this is the last that happened; nothing otherwise.
select started_at from (
    select started_at, command, stop_reason from etl.runs
    where job = :job order by started_at desc, run_id limit 1
) as latest
where command = 'dry run' and stop_reason = 'last receives'

-- run_state --
-- Part of the queries below: whether a run has finished, is running, or has given no sign of life for
-- so long that it was probably killed.
case when finished_at is not null then 'finished'
     when seen_at > now() - make_interval(secs => :gone_seconds) then 'running'
     else 'killed?' end

-- list_runs --
-- The newest runs of a job, or of all jobs.
select run_id, job, command, started_at, finished_at, {state} as state, received, loaded, already_handled, quarantined,
       released, batches, stop_reason, version, config_hash, host
from etl.runs
where cast(:job as text) is null or job = :job
order by started_at desc
limit :limit

-- runs_beginning --
-- The runs whose id begins with these hexadecimal digits, newest first.
select run_id, job, started_at as at
from etl.runs
where starts_with(replace(cast(run_id as text), '-', ''), :digits)
order by started_at desc, run_id

-- whole_run --
-- All that is known of a run.
select cast(run_id as text) as run_id, job, command, {state} as state, started_at, finished_at,
       seen_at, cast(extract(epoch from now() - seen_at) as float) as seconds_since_seen,
       cast(extract(epoch from coalesce(finished_at, seen_at) - started_at) as float) as seconds,
       received, loaded, already_handled, quarantined, released, updated, skipped, batches,
       events_loaded, events_already_handled, events_quarantined, empty_messages,
       stop_reason, exit_code, problem, failed_checks, unknown_fields, notes, version, config_hash, host
from etl.runs
where run_id = cast(:run_id as uuid)

-- broken_checks_of_run --
-- The checks that the messages of a run failed, for a run of an earlier version, whose row has none.
select "column", "check", sum(messages) as messages, 0 as released
from etl.broken_checks
where run_id = cast(:run_id as uuid)
group by 1, 2
order by messages desc, 1, 2

-- role_and_triggers --
-- For an error: the role that runs the statements, and the triggers and rules of a table.
select current_user as role,
       array(
           select cast(tgname as text)
           from pg_trigger join pg_class on pg_class.oid = tgrelid
           join pg_namespace on pg_namespace.oid = relnamespace
           where nspname = :schema and relname = :name and not tgisinternal
           union all
           select cast(rulename as text) from pg_rules
           where schemaname = :schema and tablename = :name
           order by 1
       ) as triggers
