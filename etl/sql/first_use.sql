-- Queries of etl.key_checks, etl.masked_columns and etl.dropped_fields: what the first use of a key,
-- of a masked column's context or of a dropped field has left in the database.

-- lock_first_use --
-- Let one transaction at a time record first uses. Two that start together must not record different
-- keys for one id.
select pg_advisory_xact_lock(hashtext('etl.first_use'))

-- first_use_rights --
-- What the session's role may do with these tables, for those that exist. The catalogue is open to
-- every role.
select c.relname as name,
       has_schema_privilege(c.relnamespace, 'usage') and has_table_privilege(c.oid, 'select') as readable,
       has_schema_privilege(c.relnamespace, 'usage') and has_table_privilege(c.oid, 'insert') as writable
from pg_class c
where c.relnamespace = to_regnamespace('etl')
  and c.relname in ('key_checks', 'masked_columns', 'dropped_fields')

-- key_checks --
-- The check values that a job's keys must have: those of its own first uses, and those of its table,
-- which another job may have used first.
select job, target, key_id, check_value, first_used_at
from etl.key_checks
where job = :job or target = :target
order by first_used_at, job, target

-- all_key_checks --
-- The check values of all jobs.
select job, target, key_id, check_value, first_used_at from etl.key_checks

-- add_key_check --
-- Record the first use of a key.
insert into etl.key_checks (job, target, key_id, check_value)
values (:job, :target, :key_id, :check_value)
on conflict do nothing

-- masked_columns --
-- The masked columns of a table, as they were first loaded.
-- By way of JSON, because tables of an earlier version do not have the last columns.
select column_name, context, canonical, fields, job, first_used_at,
       coalesce(to_jsonb(masked_columns) -> 'cleaning', '[]') as cleaning,
       coalesce(to_jsonb(masked_columns) ->> 'kind', 'siv') as kind,
       to_jsonb(masked_columns) ->> 'key_id' as key_id
from etl.masked_columns
where target = :target
order by column_name

-- add_masked_column --
-- Record how a column is masked.
insert into etl.masked_columns
    (target, column_name, context, canonical, fields, job, cleaning, kind, key_id)
values (:target, :column_name, :context, :canonical, :fields, :job, :cleaning, :kind, :key_id)
on conflict do nothing

-- dropped_fields --
-- The fields that a job drops, or has dropped earlier.
select field from etl.dropped_fields where job = :job order by field

-- add_dropped_fields --
-- Record the fields that a job drops.
insert into etl.dropped_fields (job, field)
select :job, unnest(cast(:fields as text[]))
on conflict do nothing

-- readable_columns --
-- The columns of a table that the session's role may read; none if the table does not exist.
select a.attname
from pg_attribute a
join pg_class c on c.oid = a.attrelid
join pg_namespace n on n.oid = c.relnamespace
where n.nspname = :schema and c.relname = :name and a.attnum > 0 and not a.attisdropped
  and has_schema_privilege(n.oid, 'usage') and has_column_privilege(c.oid, a.attnum, 'select')

-- stored_bodies --
-- For each key, some of the bodies that it sealed, among the job's oldest open entries.
select key_id, message_id, body
from (
    select key_id, message_id, body,
           row_number() over (partition by key_id order by quarantine_id) as number
    from (
        select quarantine_id, message_id, body
        from etl.quarantine
        where body is not null and {of_job}
        order by quarantine_id
        limit :entries
    ) as oldest
    join unnest(cast(:key_ids as text[]), cast(:headers as bytea[])) as header (key_id, bytes)
      on substring(body from 1 for length(bytes)) = bytes
) as numbered
where number <= :each

-- has_history --
-- Whether any job has used this database before. Every role that may record first uses may read the
-- ledger.
select exists (select from etl.ledger)
