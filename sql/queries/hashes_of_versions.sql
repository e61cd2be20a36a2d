-- $1 job ids, $2 versions, in pairs: the hashes of these events.
select asked.job_id, event.hash
from unnest($1::bigint[], $2::bigint[]) as asked (job_id, version)
cross join lateral (
    select hash from events
    where job_id = asked.job_id and version = asked.version
        and position >= (select first_position from jobs where id = asked.job_id)
    limit 1
) event
