-- How the runs of a job went and which checks their messages failed. Replays of the quarantine are
-- left out, because they say nothing about what the producers send. A reject that was replayed or
-- discarded later still counts: its reasons are kept.

-- quality_runs --
-- The newest runs in the order in which they started, with the share that was quarantined.
select row_number() over (order by started_at, run_id) as run,
       cast(run_id as text) as run_id,
       date_trunc('second', started_at) as started_at,
       cast(extract(epoch from finished_at - started_at) as float8) as seconds,
       received, loaded, already_handled, quarantined, released,
       cast(quarantined as float8) / nullif(loaded + quarantined, 0) as quarantined_share,
       received = loaded + already_handled + quarantined + released as adds_up,
       stop_reason
from (
    select * from etl.runs where job = :job and command = 'run'
    order by started_at desc, run_id limit :max_runs
) as newest
order by run

-- quality_checks --
-- The checks that messages of the newest runs failed, those with the most messages first.
with newest as (
    select run_id, started_at from etl.runs where job = :job and command = 'run'
    order by started_at desc, run_id limit :max_runs
)
select "column", "check", cast(sum(messages) as bigint) as messages,
       count(distinct run_id) as runs, max(started_at) as latest_run_at
from etl.broken_checks
join newest using (run_id)
where job = :job
group by 1, 2
order by messages desc, 1, 2

-- quality_checks_by_run --
-- How many messages failed each check in each of the newest runs, including 0.
with newest as (
    select row_number() over (order by started_at, run_id) as run,
           run_id, loaded + quarantined as all_messages
    from (
        select * from etl.runs where job = :job and command = 'run'
        order by started_at desc, run_id limit :max_runs
    ) as newest
),
broken as (
    select run_id, "column", "check", messages from etl.broken_checks join newest using (run_id)
    where job = :job
),
checks as (select distinct "column", "check" from broken)
select run, "column", "check",
       coalesce(messages, 0) as messages,
       cast(coalesce(messages, 0) as float8) / nullif(all_messages, 0) as share
from newest
cross join checks
left join broken using (run_id, "column", "check")
order by run, "column", "check"
