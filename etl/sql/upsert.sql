-- What the catalogue says of a target in which rows are replaced or skipped by their key.

-- unique_keys --
-- The columns of each unique index of a table that a conflict can be found by. Partial indexes and
-- deferrable constraints are of no use for that.
select array(
    select cast(a.attname as text)
    from unnest(i.indkey) with ordinality as k (attnum, position)
    join pg_attribute a on a.attrelid = i.indrelid and a.attnum = k.attnum
    where position <= i.indnkeyatts
) as columns
from pg_index i
join pg_class c on c.oid = i.indrelid
join pg_namespace n on n.oid = c.relnamespace
where n.nspname = :schema and c.relname = :name and i.indisunique and i.indisvalid and i.indimmediate
  and i.indpred is null and i.indexprs is null

-- keys_used_in --
-- The keys under which tokens of a table were made.
select distinct key_id from etl.key_checks where target = :target

-- rights_to_replace --
-- What the current role may not do with columns of the target, and what row-level security hides from
-- it or refuses.
with target as (
    select c.oid
    from pg_class c join pg_namespace n on n.oid = c.relnamespace
    where n.nspname = :schema and c.relname = :name
), needed as (
    select * from jsonb_to_recordset(cast(:needed as jsonb)) as needed (privilege text, name text)
)
select distinct 'right' as lacking, privilege
from target cross join needed
join pg_attribute a on a.attrelid = target.oid and a.attname = needed.name
where not has_column_privilege(target.oid, a.attnum, privilege)
union all
select distinct 'policy', privilege
from target cross join needed
where row_security_active(target.oid) and not exists (
    select from pg_policy
    where polrelid = target.oid and polpermissive
      and polcmd in ('*', case privilege when 'select' then 'r' else 'w' end)
      and (0 = any(polroles)
           or exists (select from unnest(polroles) as r (oid) where pg_has_role(r.oid, 'usage')))
)
order by 1 desc, 2
