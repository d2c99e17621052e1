-- The name of each query is between dashes; its purpose follows.

-- own_columns --
-- The columns of the job's own tables and view. The catalogue is open to every role.
select c.relname, a.attname
from pg_attribute a join pg_class c on c.oid = a.attrelid
where c.relnamespace = to_regnamespace('etl') and c.relkind in ('r', 'v') and a.attnum > 0
  and not a.attisdropped

-- unlogged_tables --
-- The job's own tables, the target and its partitions, if a crash of the server would empty them.
select format('%s.%s', nspname, relname)
from pg_class join pg_namespace on pg_namespace.oid = relnamespace
where relpersistence = 'u' and relkind in ('r', 'p')
  and (nspname = 'etl' or pg_class.oid = to_regclass(format('%I.%I', :schema, :table))
       or pg_class.oid in (select relid
                           from pg_partition_tree(to_regclass(format('%I.%I', :schema, :table)))))
order by 1

-- claim_messages --
-- Enter the ids that are new to the ledger, and return them. Returns null if all of them are new: in
-- the usual case no id has to travel back. The ids arrive sorted, so that two workers with the same
-- messages wait for each other instead of deadlocking.
with fresh as (
    insert into etl.ledger (message_id, run_id, batch)
    select message_id, cast(:run_id as uuid), :batch
    from jsonb_array_elements_text(cast(:message_ids as jsonb)) as ids (message_id)
    on conflict (message_id) do nothing
    returning message_id
)
select case when count(*) < :id_count then coalesce(array_agg(message_id), '{}') end from fresh

-- free_keys --
-- Remove keys that were claimed in this transaction and whose rows were refused.
delete from etl.ledger
where message_id in (select jsonb_array_elements_text(cast(:keys as jsonb)))

-- committed_before --
-- Whether an earlier attempt at this same batch was committed after all.
select exists (
    select from etl.ledger
    where message_id in (select jsonb_array_elements_text(cast(:message_ids as jsonb)))
      and run_id = cast(:run_id as uuid) and batch = :batch
)

-- prune_ledger --
-- Remove ids that are older than the retention.
delete from etl.ledger where handled_at < now() - make_interval(days => :retention_days)

-- start_run --
-- Enter a run. Entering it again, after a lost reply to COMMIT, changes nothing.
insert into etl.runs (run_id, command, version, config_hash, host)
values (:run_id, :command, :version, :config_hash, :host)
on conflict do nothing

-- add_to_run --
-- Add a batch's counts. Several workers add to one row, so these are differences. The numbers that
-- finish_run sets at the end are absolute.
update etl.runs
set received = received + :received, loaded = loaded + :loaded,
    already_handled = already_handled + :already_handled,
    quarantined = quarantined + :quarantined, released = released + :released,
    batches = batches + 1
where run_id = :run_id

-- run_counts --
-- The committed counts of a run.
select received, loaded, already_handled, quarantined, released, batches
from etl.runs where run_id = :run_id

-- finish_run --
-- Set the final counts of a run, when it ended, and why.
update etl.runs
set received = :received, loaded = :loaded, already_handled = :already_handled,
    quarantined = :quarantined, released = :released, batches = :batches,
    finished_at = now(), stop_reason = :stop_reason
where run_id = :run_id

-- list_runs --
-- The newest runs.
select run_id, command, started_at, finished_at, received, loaded, already_handled, quarantined,
       released, batches, stop_reason, version, config_hash, host
from etl.runs
order by started_at desc
limit :limit
