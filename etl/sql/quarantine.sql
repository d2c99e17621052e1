-- Queries of etl.quarantine. An entry is open while it has its body.

-- store_reject --
-- Store one reject with its sealed body.
insert into etl.quarantine
    (job, message_id, run_id, sent_at, reasons, masked_fields, body, is_sample)
values (
    :job, :message_id, :run_id, :sent_at, cast(:reasons as jsonb), :masked_fields, :body, :is_sample
)

-- remove_samples --
-- Delete the job's samples of refused messages that are at least this old.
select etl.remove_samples(:job, :older_than_days)

-- selected_entries --
-- The condition that selects entries, for the queries below. The run is a range of ids: those that
-- begin as given. Every list of reasons contains the empty list, so that one selects all entries.
reasons @> cast(:reasons as jsonb)
and (cast(:job as text) is null or job = :job)
and (cast(:samples as boolean) is null or is_sample = :samples)
and (cast(:ids as bigint[]) is null or quarantine_id = any(cast(:ids as bigint[])))
and (cast(:run_from as uuid) is null
     or run_id between cast(:run_from as uuid) and cast(:run_to as uuid))
and (cast(:older_days as float) is null
     or quarantined_at < now() - cast(:older_days as float) * interval '1 day')
and (cast(:newer_days as float) is null
     or quarantined_at > now() - cast(:newer_days as float) * interval '1 day')

-- entries_of_other_jobs --
-- Those of the entries that belong to another job, and a run of another job.
select 'entry ' || quarantine_id as what, job
from etl.quarantine where quarantine_id = any(cast(:ids as bigint[])) and job <> :job
union all
select 'run ' || run_id, job
from etl.runs
where run_id between cast(:run_from as uuid) and cast(:run_to as uuid) and job <> :job and not exists (
    select from etl.quarantine
    where quarantine.run_id = runs.run_id and quarantine.job = :job
)
order by 1

-- missing_entries --
-- Those of the entries that do not exist, and the run if no job has it. An imported entry may be of a
-- run that another database has.
select 'entry ' || id as what
from unnest(cast(:ids as bigint[])) as id
where not exists (select from etl.quarantine where quarantine_id = id)
union all
select 'run ' || cast(:run_id as text)
where cast(:run_id as text) is not null
  and not exists (
      select from etl.runs where run_id between cast(:run_from as uuid) and cast(:run_to as uuid)
  )
  and not exists (
      select from etl.quarantine where run_id between cast(:run_from as uuid) and cast(:run_to as uuid)
  )
order by 1

-- runs_by_beginning --
-- The runs whose ids are in this range; those of imported entries may be of another database.
select run_id from etl.runs where run_id between cast(:run_from as uuid) and cast(:run_to as uuid)
union
select run_id from etl.quarantine where run_id between cast(:run_from as uuid) and cast(:run_to as uuid)

-- entries_by_masked_fields --
-- Count the open entries by the fields that their job masked when it quarantined them.
select masked_fields, count(*) as entries
from etl.quarantine
where body is not null and {selected}
group by 1
order by 1

-- quarantine_reasons --
-- Count the messages in quarantine for each job and reason, with the times of the oldest and newest.
select job, reason ->> 'column' as "column", reason ->> 'check' as "check",
       count(*) as messages, min(quarantined_at) as oldest, max(quarantined_at) as newest
from etl.quarantine, jsonb_array_elements(reasons) as reason
where (body is null) = :closed and {selected}
group by 1, 2, 3
order by messages desc, 1, 2, 3

-- quarantine_entries --
-- The next entries, without their bodies.
select quarantine_id, job, message_id, run_id, sent_at, quarantined_at, reasons, masked_fields,
       octet_length(body) as sealed_bytes, closed_at, closed_as, closed_by, note
from etl.quarantine
where (body is null) = :closed and quarantine_id > :after and {selected}
order by quarantine_id
limit :limit

-- quarantine_bodies --
-- Entries that are still open, with their bodies.
select quarantine_id, job, message_id, run_id, sent_at, quarantined_at, reasons, masked_fields, body
from etl.quarantine
where quarantine_id = any(:ids) and body is not null
order by quarantine_id

-- superseded_entries --
-- The messages that another run of the job has handled since, after their ids were removed from the
-- ledger.
select message_id
from etl.quarantine join etl.ledger using (message_id)
where quarantine_id = any(:ids)
  and ledger.job_id in (0, (select job_id from etl.jobs where jobs.job = quarantine.job))
  and ledger.run_id not in (quarantine.run_id, cast(:run_id as uuid))

-- update_reasons --
-- Store new reasons for entries that stay open.
update etl.quarantine
set reasons = updates.reasons
from jsonb_to_recordset(cast(:updates as jsonb)) as updates (id bigint, reasons jsonb)
where quarantine_id = updates.id

-- close_entries --
-- Turn the entries that are still open into tombstones. They are locked in order, so that two of
-- these statements cannot deadlock.
with locked as (
    select quarantine_id from etl.quarantine
    where quarantine_id = any(:ids) and body is not null
    order by quarantine_id for update
)
update etl.quarantine as entry
set body = null, closed_at = now(), closed_as = :closed_as, closed_by = session_user, note = :note
from locked
where entry.quarantine_id = locked.quarantine_id
returning entry.quarantine_id

-- import_entries --
-- Store the entries of a file whose messages the job does not have in the ledger. Runs count batches
-- from 1, so batch 0 marks an import. A file of an earlier version does not say what was masked.
with listed as (
    select *
    from jsonb_to_recordset(cast(:entries as jsonb)) as entry (
        message_id text, run_id uuid, sent_at timestamptz, quarantined_at timestamptz,
        reasons jsonb, masked_fields text[], body text
    )
), fresh as (
    insert into etl.ledger (message_id, run_id, batch, job_id)
    select message_id, run_id, 0, (select job_id from etl.jobs where job = :job)
    from listed
    where not exists (
        select from etl.ledger as earlier
        where earlier.message_id = listed.message_id and earlier.job_id = 0
    )
    order by message_id collate "C"
    on conflict (message_id, job_id) do nothing
    returning message_id
)
insert into etl.quarantine
    (job, message_id, run_id, sent_at, quarantined_at, reasons, masked_fields, body)
select :job, message_id, run_id, sent_at, quarantined_at, reasons,
       coalesce(masked_fields, cast(:masked_fields as text[])), decode(body, 'base64')
from listed join fresh using (message_id)
