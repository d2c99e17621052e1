-- What the catalogue says of a table that is divided by time.

-- is_partitioned_by --
-- Whether a table is partitioned by the range of this one column.
select exists (
    select from pg_partitioned_table p
    join pg_class c on c.oid = p.partrelid
    join pg_namespace n on n.oid = c.relnamespace
    join pg_attribute a on a.attrelid = c.oid and a.attnum = p.partattrs[0]
    where n.nspname = :schema and c.relname = :name and p.partstrat = 'r' and p.partnatts = 1
      and a.attname = :column
)

-- has_default_partition --
-- Whether a table has a partition for all other rows.
select p.partdefid <> 0
from pg_partitioned_table p
join pg_class c on c.oid = p.partrelid
join pg_namespace n on n.oid = c.relnamespace
where n.nspname = :schema and c.relname = :name

-- partition_names --
-- The names of the partitions of a table.
select cast(part.relname as text)
from pg_inherits
join pg_class part on part.oid = inhrelid
join pg_class c on c.oid = inhparent
join pg_namespace n on n.oid = c.relnamespace
where n.nspname = :schema and c.relname = :name
