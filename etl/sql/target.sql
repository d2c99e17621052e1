-- What the catalogue says about the target table, before the first message is received. The catalogue
-- is open to every role.

-- target_relation --
-- The table, and what the current role may do with it.
select c.oid, cast(c.relkind as text) as kind,
       current_user as role, current_database() as database,
       has_schema_privilege(n.oid, 'usage') as schema_usage,
       has_database_privilege(current_database(), 'temporary') as temporary,
       -- The function would wait for a lock on an ordinary table.
       case when c.relkind = 'v' then pg_relation_is_updatable(c.oid, true) & 8 <> 0
            else c.relkind <> 'm' end as takes_inserts,
       row_security_active(c.oid) as row_security,
       exists (
           select from pg_policy
           where polrelid = c.oid and polpermissive and polcmd in ('a', '*')
             and (0 = any(polroles)
                  or exists (select from unnest(polroles) as r (oid) where pg_has_role(r.oid, 'usage')))
       ) as insert_policy,
       -- Such a trigger may fill in what the row lacks. It may be a partition's.
       exists (
           select from pg_trigger
           where (tgrelid = c.oid or tgrelid in (select relid from pg_partition_tree(c.oid)))
             and not tgisinternal and tgenabled in ('O', 'A')
             and tgtype & 5 = 5 and tgtype & 66 <> 0  -- for each row, insert, before or instead of
       ) as row_trigger,
       -- Such a rule sends every row elsewhere.
       exists (
           select from pg_rewrite
           where ev_class = c.oid and ev_type = '3' and is_instead and ev_enabled in ('O', 'A')
             and cast(ev_qual as text) = '<>'
       ) as sends_rows_elsewhere
from pg_class c join pg_namespace n on n.oid = c.relnamespace
where n.nspname = :schema and c.relname = :name

-- target_columns --
-- The columns of a table. A domain is replaced by the type that it is made of.
with recursive part as (
    select a.attrelid, a.attnum, a.attname, a.atttypid as type_oid, a.atttypmod as modifier,
           a.attnotnull as not_null, a.atthasdef or a.attidentity <> '' as has_default,
           a.attidentity, a.attgenerated
    from pg_attribute a
    join pg_class c on c.oid = a.attrelid
    join pg_namespace n on n.oid = c.relnamespace
    where n.nspname = :schema and c.relname = :name and a.attnum > 0 and not a.attisdropped
    union all
    select part.attrelid, part.attnum, part.attname, t.typbasetype, t.typtypmod, part.not_null or t.typnotnull,
           part.has_default or t.typdefault is not null, part.attidentity, part.attgenerated
    from part join pg_type t on t.oid = part.type_oid
    where t.typtype = 'd'
)
select part.attnum as number, cast(part.attname as text) as name, cast(t.typname as text) as type, part.modifier,
       format_type(part.type_oid, part.modifier) as written, part.not_null, part.has_default,
       t.typtype = 'e' or coalesce(element.typtype = 'e', false) as is_enum,
       cast(element.typname as text) as element,
       part.attidentity = 'a' as always_identity, part.attgenerated <> '' as generated,
       has_column_privilege(part.attrelid, part.attnum, 'insert') as may_insert,
       -- Its default takes a number from a sequence, which needs a right of its own.
       (
           select cast(cast(s.oid as regclass) as text)
           from pg_attrdef d
           join pg_depend on classid = cast('pg_attrdef' as regclass) and objid = d.oid
                             and refclassid = cast('pg_class' as regclass)
           join pg_class s on s.oid = refobjid
           where d.adrelid = part.attrelid and d.adnum = part.attnum
             and case when s.relkind = 'S' then not has_sequence_privilege(s.oid, 'usage, update') end
           limit 1
       ) as closed_sequence
from part join pg_type t on t.oid = part.type_oid
left join pg_type element on element.oid = t.typelem and t.typcategory = 'A' and t.typarray = 0
where t.typtype <> 'd'
order by part.attnum

-- leaf_partitions --
-- The partitions that hold the rows of a partitioned table.
with recursive part as (
    select cast(:oid as oid) as oid
    union
    select inhrelid from pg_inherits join part on inhparent = part.oid
)
select cast(nspname as text) as schema, cast(relname as text) as name,
       cast(relkind as text) as kind
from part join pg_class using (oid) join pg_namespace on pg_namespace.oid = relnamespace
where relkind <> 'p'
order by 1, 2

-- missing_rights --
-- What the current role may not do with the job's own tables, of what it has to: neither with the table
-- nor with all columns that it names.
select "table", privilege
from jsonb_to_recordset(cast(:rights as jsonb)) as needed ("table" text, privilege text, columns jsonb)
join pg_class on relname = "table" and relnamespace = to_regnamespace('etl')
where not has_table_privilege(oid, privilege) and (columns = '[]' or exists (
    select from jsonb_array_elements_text(columns) as name
    where not has_column_privilege(oid, name, privilege)
))
order by 1, 2

-- missing_policies --
-- What row-level security of the job's own tables refuses to the current role, or hides from it.
select "table", privilege
from jsonb_to_recordset(cast(:rights as jsonb)) as needed ("table" text, privilege text)
join pg_class c on relname = "table" and relnamespace = to_regnamespace('etl')
where row_security_active(c.oid) and not exists (
    select from pg_policy
    where polrelid = c.oid and polpermissive
      and polcmd in ('*', case privilege when 'select' then 'r' when 'insert' then 'a'
                                         when 'update' then 'w' else 'd' end)
      and (0 = any(polroles)
           or exists (select from unnest(polroles) as r (oid) where pg_has_role(r.oid, 'usage')))
)
order by 1, 2

-- closed_functions --
-- The functions that a run calls and the current role may not: the job's own, for a run, and
-- those in CHECK constraints of the target.
select format('%I.%I(%s)', s.nspname, p.proname, pg_get_function_identity_arguments(p.oid))
from pg_proc p join pg_namespace s on s.oid = p.pronamespace
where not has_function_privilege(p.oid, 'execute') and (
    :is_run and s.nspname = 'etl' and p.proname = 'remove_samples'
    or p.oid in (
        select refobjid
        from pg_class c
        join pg_namespace n on n.oid = c.relnamespace
        join pg_constraint k on k.conrelid = c.oid and k.contype = 'c'
        join pg_depend d on d.classid = cast('pg_constraint' as regclass) and d.objid = k.oid
                        and d.refclassid = cast('pg_proc' as regclass)
        where n.nspname = :schema and c.relname = :name
    )
)
order by 1

-- own_schema_usage --
-- Whether the current role may use the job's own schema.
select has_schema_privilege(to_regnamespace('etl'), 'usage')

-- is_conflict_of_no_value --
-- Whether a row is in conflict with another one for no value of its own: in a trigger of a table, or
-- because all columns of a constraint take their defaults. The trigger of a view stores the row itself.
select :of_function and not exists (
    select from pg_class c join pg_namespace n on n.oid = c.relnamespace
    where n.nspname = :schema and c.relname = :name and c.relkind = 'v'
) or exists (
    select from pg_index i
    join pg_class x on x.oid = i.indexrelid
    join pg_class c on c.oid = i.indrelid
    join pg_namespace n on n.oid = c.relnamespace
    where n.nspname = :conflict_schema and c.relname = :conflict_table and x.relname = :constraint
      and not exists (
          -- An expression has the number 0 and is made from values. So is a generated column.
          select from unnest(i.indkey) with ordinality as k (attnum, position)
          left join pg_attribute a on a.attrelid = c.oid and a.attnum = k.attnum and k.attnum <> 0
          where position <= i.indnkeyatts
            and (a.attname is null or a.attname = any(cast(:columns as text[]))
                 or not (a.attidentity <> '' or a.atthasdef and a.attgenerated = ''))
      )
)

-- without_replica_identity --
-- The tables that hold the target's rows and refuse a change, because a publication sends it and
-- nothing identifies the rows. A publication of a table covers its partitions.
with recursive part as (
    select c.oid
    from pg_class c join pg_namespace n on n.oid = c.relnamespace
    where n.nspname = :schema and c.relname = :name
    union
    select inhrelid from pg_inherits join part on inhparent = part.oid
)
select cast(n.nspname as text) as schema, cast(c.relname as text) as name,
       cast(published.pubname as text) as publication
from part
join pg_class c using (oid)
join pg_namespace n on n.oid = c.relnamespace
join lateral (
    select p.pubname
    from pg_publication_tables listed
    join pg_publication p on p.pubname = listed.pubname
                         and case :change when 'update' then p.pubupdate else p.pubdelete end
    join pg_namespace pn on pn.nspname = listed.schemaname
    join pg_class pc on pc.relnamespace = pn.oid and pc.relname = listed.tablename
    where pc.oid = c.oid
       or pc.oid in (select cast(relid as oid) from pg_partition_ancestors(c.oid) as a (relid))
    order by 1
    limit 1
) as published on true
where c.relkind = 'r'
  and not case c.relreplident
              when 'f' then true
              when 'n' then false
              when 'd' then exists (select from pg_index
                                    where indrelid = c.oid and indisprimary and indisvalid)
              else exists (select from pg_index
                           where indrelid = c.oid and indisreplident and indisvalid)
          end
order by 1, 2

-- publications --
-- The publications that send such a change of the target's rows, or of its partitions.
with recursive part as (
    select c.oid
    from pg_class c join pg_namespace n on n.oid = c.relnamespace
    where n.nspname = :schema and c.relname = :name
    union
    select inhrelid from pg_inherits join part on inhparent = part.oid
)
select distinct cast(p.pubname as text)
from pg_publication_tables listed
join pg_publication p on p.pubname = listed.pubname
                     and case :change when 'update' then p.pubupdate else p.pubdelete end
join pg_namespace n on n.nspname = listed.schemaname
join pg_class c on c.relnamespace = n.oid and c.relname = listed.tablename
where c.oid in (select oid from part)
   or c.oid in (select cast(relid as oid) from part, pg_partition_ancestors(part.oid) as a (relid))
order by 1

-- target_sequences --
-- The sequences from which the target's columns take their defaults, quoted.
select distinct cast(cast(s.oid as regclass) as text)
from pg_class c
join pg_namespace n on n.oid = c.relnamespace
join pg_attrdef d on d.adrelid = c.oid
join pg_depend on classid = cast('pg_attrdef' as regclass) and objid = d.oid
                  and refclassid = cast('pg_class' as regclass)
join pg_class s on s.oid = refobjid and s.relkind = 'S'
where n.nspname = :schema and c.relname = :name
order by 1

-- is_locked --
-- Whether another session holds a lock on a table that an INSERT would wait for.
select exists (
    select from pg_locks join pg_class c on c.oid = relation
    join pg_namespace n on n.oid = c.relnamespace
    where n.nspname = :schema and c.relname = :name and granted and pid <> pg_backend_pid()
      and database = (select oid from pg_database where datname = current_database())
      and mode in ('ShareLock', 'ShareRowExclusiveLock', 'ExclusiveLock', 'AccessExclusiveLock')
)

-- used_tables --
-- What a refused statement needed of which tables: whether the current role may use the schema (null: there
-- is none), whether the table exists, and whether the role has the right to it or to one of its columns.
select needed.schema, needed.name, needed.privilege,
       has_schema_privilege(n.oid, 'usage') as may_use_schema, c.oid is not null as "exists",
       has_table_privilege(c.oid, needed.privilege)
       or needed.privilege <> 'delete' and has_any_column_privilege(c.oid, needed.privilege) as may
from jsonb_to_recordset(cast(:needed as jsonb)) as needed (schema text, name text, privilege text)
left join pg_namespace n on n.nspname = needed.schema
left join pg_class c on c.relnamespace = n.oid and c.relname = needed.name
order by 1, 2, 3

-- missing_columns --
-- Those of some columns that a table does not have.
select wanted.name
from jsonb_array_elements_text(cast(:columns as jsonb)) with ordinality as wanted (name, position)
where not exists (
    select from pg_attribute a
    join pg_class c on c.oid = a.attrelid
    join pg_namespace n on n.oid = c.relnamespace
    where n.nspname = :schema and c.relname = :name and a.attname = wanted.name
      and a.attnum > 0 and not a.attisdropped
)
order by position

-- closed_to_creation --
-- Where the current role may not create, of what it takes to create a schema, or a table in it.
select 'database', cast(current_database() as text)
where to_regnamespace(quote_ident(:schema)) is null
  and not has_database_privilege(current_database(), 'create')
union all
select 'schema', :schema
where not has_schema_privilege(to_regnamespace(quote_ident(:schema)), 'create')

-- tables_of_others --
-- The job's own tables that the current role does not own, so that it cannot update them.
select c.relname
from pg_class c
join pg_namespace n on n.oid = c.relnamespace
where n.nspname = 'etl' and c.relname = any(:names) and not pg_has_role(c.relowner, 'usage')

-- read_only_source --
-- Where it was set that transactions are read-only, unless the whole server is.
select source from pg_settings
where name = 'default_transaction_read_only' and setting = 'on' and not pg_is_in_recovery()
