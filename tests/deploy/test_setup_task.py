"""The setup task leaves a login for the job, and its own user as it was."""

from __future__ import annotations

import pytest
import sqlalchemy as sa

from etl.embedded.postgres import EmbeddedPostgres
from etl.postgres.engine import driver_url

pytestmark = pytest.mark.long  # make deploy-test installs the emulator and runs them


def test_the_owner_keeps_its_password(postgres: EmbeddedPostgres, database: sa.URL) -> None:
    """RDS refuses the password of members of rds_iam, and of members of members.

    Who creates a role becomes a member of it, so the owner must not have created etl_job.
    """
    memberships = """
        with recursive above as (
            select roleid, member from pg_auth_members
            where member = 'etl_owner'::regrole and roleid <> 'rds_iam'::regrole
            union
            select next.roleid, next.member
            from pg_auth_members next join above on next.member = above.roleid
        )
        select roleid::regrole::text from above
    """
    superuser = sa.create_engine(driver_url(postgres.superuser_url))
    with superuser.connect() as connection:
        found = set(connection.execute(sa.text(memberships)).scalars())
        job = "select roleid::regrole::text from pg_auth_members where member = 'etl_job'::regrole"
        roles = set(connection.execute(sa.text(job)).scalars())
    superuser.dispose()
    assert found == {"etl_loader", "etl_analyst", "etl_officer"}
    assert roles == {"etl_loader", "rds_iam"}
    assert database.username == "etl_job"
