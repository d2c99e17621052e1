-- Which keys the stored tokens and bodies need, and how rekey replaces them.

-- quarantine_keys --
-- Count the bodies sealed under each key. A body is a version byte, the length of the key id, the key
-- id and the rest (see etl/crypto/seal.py). Anything that is not a body counts under null.
select case when octet_length(body) > 2 and get_byte(body, 0) = 1
                 and get_byte(body, 1) between 1 and 16
                 and octet_length(body) > 2 + get_byte(body, 1)
            then encode(substring(body from 3 for get_byte(body, 1)), 'escape') end as key_id,
       count(*) as entries
from etl.quarantine
where body is not null
group by 1
order by 1

-- quarantine_of_other_keys --
-- Lock the next bodies that do not begin with the header of the primary key, up to a number of
-- entries. Return them up to and including the one that reaches a total size in bytes.
select quarantine_id, message_id, body
from (
    select quarantine_id, message_id, body,
           sum(octet_length(body)) over (order by quarantine_id) - octet_length(body) as bytes_before
    from (
        select quarantine_id, message_id, body
        from etl.quarantine
        where quarantine_id > :after and substring(body from 1 for length(:header)) <> :header
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
-- Count the bodies that do not begin with the header of the primary key.
select count(*) from etl.quarantine where substring(body from 1 for length(:header)) <> :header

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
