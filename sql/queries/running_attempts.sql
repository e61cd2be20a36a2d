-- $1 job ids. The attempts of these jobs that may still go on.
select id, (state ->> 'attempt')::integer as attempt
from jobs
where id = any ($1::bigint[]) and final_position is null
