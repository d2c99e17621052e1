-- The duplicate report. A place in braces is filled with SQL whose names are quoted by
-- etl.postgres.queries.quote_name: {logins} the rows of the table, {user} the column of the user,
-- {value} a masked column, {time} the column of the time, {columns} all columns, {compared} those
-- without the ones that the job fills in by itself ('metadata'). The innermost query gives the columns
-- names of our own, because a table may use these names for other columns. Text is sorted by its bytes
-- (collation "C"), which is the same in every database and the fastest.

-- headline --
-- Rows, users, the first and last time, and how many rows repeat another row in every compared column.
select coalesce(sum(copies), 0)::bigint as rows,
       (select count(distinct {user}) from {logins}) as users,
       min(time) as first, max(time) as last,
       coalesce(sum(copies - 1), 0)::bigint as surplus_rows
from (select {time} as time, count(*) as copies from {logins} group by {compared}) as distinct_rows

-- exact_rows --
-- Rows that are equal in every compared column; null equals null.
select {compared}, count(*) as {copies}
from {logins}
group by {compared}
having count(*) > 1
order by count(*) desc, {compared}
limit cast(:top as bigint)

-- rows_over_time --
-- Rows of each day, and how many of them repeat another row in every compared column.
select date_trunc('day', cast(time as timestamp)) as day,
       sum(copies)::bigint as rows, sum(copies - 1)::bigint as surplus_rows
from (select {time} as time, count(*) as copies from {logins} group by {compared}) as distinct_rows
where time is not null
group by 1
order by 1

-- column_totals --
-- How many values a column has, and how many of them users share.
select coalesce(sum(rows), 0)::bigint as rows, count(*) as values,
       count(*) filter (where users > 1) as shared_values, coalesce(max(users), 0) as most_users
from (
    select value, count(*) as users, sum(rows) as rows
    from (select {value} as value, {user} as entity, count(*) as rows
          from {logins} where {value} is not null and {user} is not null group by 1, 2) as pairs
    group by value
) as by_value

-- shared_values --
-- Values that several users have.
select cast(value as text) as value, count(*) as users, sum(rows)::bigint as rows,
       min(first) as first, max(last) as last
from (
    select {value} as value, {user} as entity, count(*) as rows,
           min({time}) as first, max({time}) as last
    from {logins} where {value} is not null and {user} is not null group by 1, 2
) as pairs
group by pairs.value
having count(*) >= :min_users
order by users desc, rows desc, cast(pairs.value as text) collate "C"
limit cast(:top as bigint)

-- users_with_many --
-- Users who have several values.
select cast(entity as text) as "user", count(*) as values, sum(rows)::bigint as rows,
       min(first) as first, max(last) as last
from (
    select {user} as entity, {value} as value, count(*) as rows,
           min({time}) as first, max({time}) as last
    from {logins} where {value} is not null and {user} is not null group by 1, 2
) as pairs
group by entity
having count(*) >= :min_values
order by values desc, rows desc, cast(entity as text) collate "C"
limit cast(:top as bigint)

-- distribution --
-- How many values have one user, two users, and so on.
select users, count(*) as values
from (
    select value, count(*) as users
    from (select distinct {value} as value, {user} as entity
          from {logins} where {value} is not null and {user} is not null) as pairs
    group by value
) as by_value
group by users
order by users

-- repeats --
-- Rows of one user that agree in every masked column, each at most within_seconds after the one
-- before; a longer pause starts another repeat. Null equals null.
select cast(entity as text) as "user", {aliases}, count(*) as rows, min(time) as first,
       max(time) as last, cast(max(epoch) - min(epoch) as double precision) as seconds
from (
    select *, sum(begins) over (partition by entity, {aliases} order by epoch) as repeat
    from (
        select *, case when epoch - lag(epoch) over (partition by entity, {aliases} order by epoch)
                            <= :within_seconds then 0 else 1 end as begins
        from (
            select {user} as entity, {aliased}, {time} as time, extract(epoch from {time}) as epoch
            from {logins} where {user} is not null and {time} is not null
        ) as timed
    ) as paused
) as numbered
group by entity, {aliases}, repeat
having count(*) > 1
order by rows desc, first, cast(entity as text) collate "C", {aliases}
limit cast(:top as bigint)

-- runs_readable --
-- One row if etl.runs exists, has jobs, and this role may read it. It is looked up in the catalogue,
-- because a query of a column that does not exist is an error.
select true as readable
from pg_class join pg_namespace on pg_namespace.oid = relnamespace
     join pg_attribute on attrelid = pg_class.oid
where nspname = 'etl' and relname = 'runs' and attname = 'job'
  and has_schema_privilege(pg_namespace.oid, 'usage') and has_table_privilege(pg_class.oid, 'select')

-- deliveries --
-- What happened to all deliveries of the job; those already handled were not loaded again.
select count(*) as runs, coalesce(sum(received), 0)::bigint as received,
       coalesce(sum(loaded), 0)::bigint as loaded,
       coalesce(sum(already_handled), 0)::bigint as already_handled,
       coalesce(sum(quarantined), 0)::bigint as quarantined
from etl.runs
where job = :job and command <> 'dry run'

-- pairs --
-- Part of the queries below: which user has which values of one column, given by its position.
select {position} as position, cast({user} as text) as entity, cast({value} as text) as value,
       count(*) as rows
from {logins} where {value} is not null and {user} is not null group by 2, 3

-- tied --
-- Part of the queries below: the values that link users, and who has them. Users are numbered in the
-- order of their names. A value shared by exclude_shared users or more links nobody.
pairs as ({pairs}),
shared as (
    select position, value from pairs group by position, value
    having count(*) > 1 and count(*) < coalesce(cast(:exclude_shared as bigint), count(*) + 1)
),
tied as (
    select position, value, entity, rows,
           dense_rank() over (order by entity collate "C") - 1 as number
    from pairs join shared using (position, value)
)

-- links --
-- Each user who shares a value, paired with the first user of that value.
with {tied}
select number, first
from (select number, min(number) over (partition by position, value) as first from tied) as linked
where number <> first

-- linked --
-- What links the chosen groups: the values that most users share, at least one for each column, and
-- the users who have them.
with {tied},
chosen as (
    select * from unnest(cast(:members as integer[]), cast(:groups as integer[]))
        as chosen (number, "group")
),
edges as materialized (
    select "group", position, value, entity, rows,
           row_number() over (partition by "group", position, value
                              order by rows desc, entity collate "C") as nth_user
    from tied join chosen using (number)
),
ties as (
    select "group", position, value, count(*) as users, sum(rows)::bigint as rows,
           row_number() over (partition by "group" order by count(*) desc, sum(rows) desc,
                              position, value collate "C") as nth,
           row_number() over (partition by "group", position
                              order by count(*) desc, sum(rows) desc, value collate "C")
               as nth_of_column,
           count(*) over (partition by "group", position) as values_of_column
    from edges group by "group", position, value
)
select "group", position, value, users, ties.rows, values_of_column, entity as "user",
       edges.rows as user_rows
from ties join edges using ("group", position, value)
where (nth <= :max_ties or nth_of_column = 1) and nth_user <= :max_users
order by "group", nth, nth_user

-- countable --
-- Whether the rows have places and this role may read them, which takes the right to read all
-- columns. No row of the table follows: the other columns have the types of the time and of the
-- table's columns. Postgres before 14 does not have the function.
select (select relkind in ('r', 'p', 'm') and has_table_privilege(pg_class.oid, 'select')
        from pg_class join pg_namespace on pg_namespace.oid = relnamespace
        where nspname = :schema and relname = :name)
       and not exists (select from pg_inherits join pg_foreign_table on inhrelid = ftrelid),
       hash_record_extended(row(0), 0), logins.*
from (values (0)) as one_row left join (select {time}, {columns} from {table} limit 0) as logins
     on true

-- digests --
-- The rows of the table as numbers of fixed size; see etl.analysis.digests.
select {fields} from {table} where {period}

-- named --
-- Columns of chosen rows, in an order; nth is the position of the row in the choice.
select chosen.nth, {shown}
from unnest(cast(:parts as oid[]), cast(:places as tid[])) with ordinality
    as chosen (part, place, nth)
join {table} as logins on logins.ctid = chosen.place and logins.tableoid = chosen.part
order by {order}
