-- $1 job id, $2 up to this position
select position, version, type, attempt, recorded_at, rule, data
from events
where job_id = $1 and position <= $2
order by version
