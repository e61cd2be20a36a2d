-- $1 job id, or null for all
select id, version, position, hash, first_position
from jobs
where $1::bigint is null or id = $1
order by id
