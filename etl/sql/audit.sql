-- Queries of etl.unmask_audit.

-- add_audit --
-- Record who is about to see or remove plain values. The database fills in the time and its user.
insert into etl.unmask_audit
    (os_user, host, action, reason, scope, columns, count, key_id, fingerprint)
values (:os_user, :host, :action, :reason, :scope, :columns, :count, :key_id, :fingerprint)

-- list_audit --
-- The newest rows, newest first.
select audit_id, asked_at, db_user, os_user, host, action, reason, scope,
       array_to_string(columns, ', ') as columns, count, key_id, fingerprint
from etl.unmask_audit
order by audit_id desc
limit :limit
