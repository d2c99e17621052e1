-- Which keys the stored tokens and bodies need, and how rekey replaces them.

-- quarantine_keys --
-- Count the bodies that each job has sealed under each key. A body is a version byte, the length of the key id, the key
-- id and the rest (see etl/crypto/seal.py). Anything that is not a body counts under null.
select job, case when octet_length(body) > 2 and get_byte(body, 0) = 1
                 and get_byte(body, 1) between 1 and 16
                 and octet_length(body) > 2 + get_byte(body, 1)
            then encode(substring(body from 3 for get_byte(body, 1)), 'escape') end as key_id,
       count(*) as entries
from etl.quarantine
where body is not null
group by 1, 2
order by 1, 2

-- masked_places --
-- The columns of all jobs that may hold tokens, who masks them, and whether this role can count what
-- is in them. Row-level security would hide rows without an error.
select schema_name as schema, table_name as table, column_name as column, jobs, case
    when attname is null then 'missing'
    when not has_schema_privilege(pg_namespace.oid, 'usage')
         or not has_column_privilege(pg_class.oid, attnum, 'select') then 'forbidden'
    when row_security_active(pg_class.oid) then 'filtered'
    else 'readable'
end as state
from (
    select schema_name, table_name, column_name, array_agg(distinct job order by job) as jobs
    from etl.job_columns group by schema_name, table_name, column_name
) as registered
left join pg_namespace on nspname = schema_name
left join pg_class on relnamespace = pg_namespace.oid and relname = table_name
    and relkind in ('r', 'p', 'v', 'm', 'f')
left join pg_attribute on attrelid = pg_class.oid and attname = column_name and not attisdropped
order by 1, 2, 3

-- quarantine_of_other_keys --
-- Lock the job's next bodies that do not begin with the header of the primary key, up to a number of
-- entries. Return them up to and including the one that reaches a total size in bytes.
select quarantine_id, message_id, body
from (
    select quarantine_id, message_id, body,
           sum(octet_length(body)) over (order by quarantine_id) - octet_length(body) as bytes_before
    from (
        select quarantine_id, message_id, body
        from etl.quarantine
        where job = :job and quarantine_id > :after and substring(body from 1 for length(:header)) <> :header
        order by quarantine_id
        limit :entries
        for update
    ) as locked
) as measured
where bytes_before < :bytes
order by quarantine_id

-- put_sealed_bodies --
-- Replace the locked bodies with those of the batch.
update etl.quarantine as entry
set body = batch.body
from etl_reseal as batch
where entry.quarantine_id = batch.quarantine_id

-- count_bodies_of_other_keys --
-- Count the job's bodies that do not begin with the header of the primary key.
select count(*) from etl.quarantine
where job = :job and substring(body from 1 for length(:header)) <> :header

-- table_parts --
-- The tables that hold the rows of a table, with their sizes: itself, its partitions and the tables
-- that inherit from it.
with recursive part as (
    select pg_class.oid
    from pg_class join pg_namespace on pg_namespace.oid = relnamespace
    where nspname = :schema and relname = :name
    union
    select inhrelid from pg_inherits join part on inhparent = part.oid
)
select nspname as schema, relname as name, cast(relkind as text) as kind,
       pg_relation_size(pg_class.oid) / cast(current_setting('block_size') as bigint) as blocks
from part join pg_class using (oid) join pg_namespace on pg_namespace.oid = relnamespace
where relkind <> 'p'
order by 1, 2
