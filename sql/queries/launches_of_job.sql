-- $1 job id. Where each of its attempts was asked for, and the uids of what was made for it.
select attempt, data ->> 'place' as place, data ->> 'uid' as uid
from events
where job_id = $1
    and rule is null
    and (type = 'launched' or type = 'queued' and data ? 'place')
order by version
