-- Each query is headed by its name between dashes and by what it is for.

-- quarantine_keys --
-- How many bodies are sealed under which key: after a version byte stand the length of the key id
-- and the key id (see etl/seal.py). A body that is none counts under null.
select case when octet_length(body) > 2 and get_byte(body, 0) = 1
                 and get_byte(body, 1) between 1 and 16
                 and octet_length(body) > 2 + get_byte(body, 1)
            then encode(substring(body from 3 for get_byte(body, 1)), 'escape') end as key_id,
       count(*) as entries
from etl.quarantine
where body is not null
group by 1
order by 1
