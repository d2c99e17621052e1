-- The roles, each with the least that its work needs. Every statement may run again, and brings a
-- role that was given more back to this. In braces: the target, its schema, its masked columns.

do $$
declare
    role_name text;
begin
    foreach role_name in array array['etl_loader', 'etl_analyst', 'etl_officer'] loop
        begin
            execute format('create role %I nologin', role_name);
        exception when duplicate_object or unique_violation then
            null;  -- roles belong to the whole server: another database may have made it
        end;
        -- Staging is a temporary table; some databases take this right from everybody.
        execute format('grant connect, temporary on database %I to %I', current_database(), role_name);
    end loop;
end
$$;

revoke all on schema etl from public, etl_loader, etl_analyst, etl_officer;
revoke all on all tables in schema etl from public, etl_loader, etl_analyst, etl_officer;
revoke all on {target} from etl_loader, etl_analyst, etl_officer;

grant usage on schema etl, {target_schema} to etl_loader, etl_analyst, etl_officer;

-- The loader adds rows that it cannot read again. Of the ledger it sees ids, to know them again, and
-- forgets old ones.
grant insert on {target} to etl_loader;
grant select, insert, delete on etl.ledger to etl_loader;
grant insert on etl.quarantine to etl_loader;
grant select, insert, update on etl.runs to etl_loader;

-- The analyst reads tokens, how the runs went, and how many messages broke which checks.
grant select on {target} to etl_analyst;
grant select on etl.runs to etl_analyst;
grant select on etl.broken_checks to etl_analyst;

-- The officer looks rows up, removes or nulls a person's (forget), masks anew (rekey), and loads what
-- is replayed from the quarantine, which is a run of its own.
grant select, insert, delete on {target} to etl_officer;
{grant_masked}
grant select, insert, delete on etl.ledger to etl_officer;
grant select, insert on etl.quarantine to etl_officer;
grant update (reasons, body, closed_at, closed_as, closed_by, note) on etl.quarantine to etl_officer;
grant select, insert, update on etl.runs to etl_officer;
-- Only what the officer has to say: when, and by whom, is for the database to say. Nothing that
-- stands there can be changed.
grant select on etl.unmask_audit to etl_officer;
grant insert (os_user, host, action, reason, scope, columns, count, key_id, fingerprint)
    on etl.unmask_audit to etl_officer;
