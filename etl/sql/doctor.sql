-- Queries of `etl doctor`. All of them only read.

-- last_runs --
-- How a job's last finished run ended, and its last good one, with their age in seconds.
select cast(run_id as text) as run_id, exit_code, stop_reason,
       cast(extract(epoch from now() - finished_at) as float) as seconds_ago
from (
    select *, row_number() over (order by finished_at desc) as place,
           row_number() over (partition by exit_code = 0 order by finished_at desc) as place_of_its_kind
    from etl.runs
    where job = :job and command = 'run' and finished_at is not null
) as finished
where place = 1 or exit_code = 0 and place_of_its_kind = 1
order by place

-- initial_time_limits --
-- The time limits with which a session of this role begins, in milliseconds, unless they are 0.
select name, cast(reset_val as bigint) as milliseconds
from pg_settings
where name in ('statement_timeout', 'transaction_timeout', 'lock_timeout', 'idle_session_timeout',
               'idle_in_transaction_session_timeout')
  and reset_val <> '0'
order by name

-- ledger_size --
-- The bytes of the ledger and of its unique index, and those of the server's shared buffers.
select pg_total_relation_size(c.oid) as ledger_bytes, pg_relation_size(i.indexrelid) as index_bytes,
       pg_size_bytes(current_setting('shared_buffers')) as buffer_bytes
from pg_class c
join pg_namespace n on n.oid = c.relnamespace
join pg_index i on i.indrelid = c.oid and i.indisprimary
where n.nspname = 'etl' and c.relname = 'ledger'
