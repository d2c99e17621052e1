-- The roles, each with the fewest rights that its work needs. The statements may run again, and then
-- take back whatever else a role was granted. In braces are the target, its schema and the grant on
-- its masked columns.

do $$
declare
    role_name text;
begin
    foreach role_name in array array['etl_loader', 'etl_analyst', 'etl_officer'] loop
        begin
            execute format('create role %I nologin', role_name);
        exception when duplicate_object or unique_violation then
            null;  -- roles belong to the whole server, so another database may have created it
        end;
        -- Staging is a temporary table, and some databases revoke this right from public.
        execute format('grant connect, temporary on database %I to %I', current_database(), role_name);
    end loop;
end
$$;

revoke all on schema etl from public, etl_loader, etl_analyst, etl_officer;
revoke all on all tables in schema etl from public, etl_loader, etl_analyst, etl_officer;
revoke all on function etl.remove_samples(text, integer) from public;
revoke all on {target} from etl_loader, etl_analyst, etl_officer;

grant usage on schema etl, {target_schema} to etl_loader, etl_analyst, etl_officer;

-- The loader adds rows that it cannot read back, unless it has to compare them with those that are
-- there (table.on_conflict). In the ledger it reads ids, to recognise a message,
-- and deletes old ones.
grant insert on {target} to etl_loader;
{grant_sequences}
{grant_conflicts}
grant select, insert, delete on etl.ledger to etl_loader;
grant insert on etl.quarantine to etl_loader;
grant execute on function etl.remove_samples(text, integer) to etl_loader;
grant select, insert, update on etl.runs to etl_loader;
grant select, insert on etl.key_checks, etl.masked_columns, etl.dropped_fields to etl_loader;
grant select, insert on etl.jobs, etl.job_columns to etl_loader;

-- The analyst reads tokens, the results of the runs, and how many messages failed each check.
grant select on {target} to etl_analyst;
grant select on etl.runs to etl_analyst;
grant select on etl.broken_checks to etl_analyst;

-- The officer looks rows up, deletes or nulls those of a person (forget), masks them under a new key
-- (rekey), and replays quarantined messages, which adds a row to etl.runs.
grant select, insert, delete on {target} to etl_officer;
{grant_masked}
grant select, insert, delete on etl.ledger to etl_officer;
grant select, insert on etl.quarantine to etl_officer;
grant update (reasons, body, closed_at, closed_as, closed_by, note) on etl.quarantine to etl_officer;
grant select, insert, update on etl.runs to etl_officer;
-- First uses are recorded and never changed.
grant select, insert on etl.key_checks, etl.masked_columns, etl.dropped_fields to etl_officer;
grant select, insert on etl.jobs, etl.job_columns to etl_officer;
-- The officer may fill in all columns but the time and the database user, which come from the
-- database, and may not change or delete a row.
grant select on etl.unmask_audit to etl_officer;
grant insert (os_user, host, action, reason, scope, columns, count, key_id, fingerprint)
    on etl.unmask_audit to etl_officer;
