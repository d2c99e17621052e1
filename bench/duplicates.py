"""The duplicate report beside a plain count, at a million rows and at ten million."""

from __future__ import annotations

import time
from contextlib import closing

import psycopg2
import sqlalchemy as sa

from bench import turns

ROWS, QUICK_ROWS = 1_000_000, 5_000
TIMES = 10  # the big table beside the small one
FILL_ROWS = 1_000_000  # rows that one statement adds
TOP = 20

# Three logins a user; most devices and addresses are of one user, some of a household, and a few of
# a network's thousands, by a power law.
FILL = """
insert into user_logins
select md5('user ' || who)::uuid::text, 'android',
       'k1.' || rtrim(translate(encode(sha256(convert_to('address ' || address, 'UTF8')), 'base64'),
                                '+/', '-_'), '='),
       'k1.' || rtrim(translate(encode(sha256(convert_to('device ' || device, 'UTF8')), 'base64'),
                                '+/', '-_'), '='),
       'DE', 2003000, date '2026-11-01' + (random() * 29)::integer
from (
    select who,
           case when random() < 0.9 then 'of ' || who || ' ' || (random() * 2)::integer
                else 'shared ' || (:households * random() ^ 3)::bigint end as address,
           case when random() < 0.97 then 'of ' || who || ' ' || (random() ^ 3)::integer
                else 'shared ' || (:households * random() ^ 2)::bigint end as device
    from (select (random() * :users)::bigint as who from generate_series(1, :rows)) as users
) as logins
"""
PLAIN = """
select count(*), count(distinct user_id), count(distinct masked_ip),
       count(distinct masked_device_id)
from user_logins
"""


def fill(url: str, rows: int) -> None:
    """Add so many rows, and let the server come to rest."""
    began = time.perf_counter()
    engine = sa.create_engine(url.replace("postgresql://", "postgresql+psycopg2://"))
    for start in range(0, rows, FILL_ROWS):
        part = min(FILL_ROWS, rows - start)
        with engine.begin() as connection:
            connection.execute(
                sa.text(FILL), {"rows": part, "users": rows // 3, "households": rows // 30}
            )
        turns.say(f"table: {start + part:,} rows, {time.perf_counter() - began:.0f} s")
    engine.dispose()
    with closing(psycopg2.connect(url)) as connection:
        connection.autocommit = True
        connection.cursor().execute("vacuum analyze user_logins")
