-- Queries of etl rollback.

-- free_ledger_of_run --
-- Let the messages of a run be loaded again, except those that are or were in the quarantine: they
-- come back by a replay.
delete from etl.ledger
where run_id = cast(:run_id as uuid)
  and job_id = (select job_id from etl.jobs where job = :job)
  and message_id not in (
      select message_id from etl.quarantine where run_id = cast(:run_id as uuid) and not is_sample
  )
