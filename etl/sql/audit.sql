-- Of etl.unmask_audit.

-- add_audit --
-- Note who is about to see or remove plain values; when, and as which database user, is filled in
-- by the database.
insert into etl.unmask_audit
    (os_user, host, action, reason, scope, columns, count, key_id, fingerprint)
values (:os_user, :host, :action, :reason, :scope, :columns, :count, :key_id, :fingerprint)

-- list_audit --
-- The newest rows.
select audit_id, asked_at, db_user, os_user, host, action, reason, scope,
       array_to_string(columns, ', ') as columns, count, key_id, fingerprint
from etl.unmask_audit
order by audit_id desc
limit :limit
