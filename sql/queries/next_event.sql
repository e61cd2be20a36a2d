-- $1 job id, $2 version. The job's next event.
select position, job_id, version, attempt, event_id, type, source, trace_id, seq, occurred_at,
    recorded_at, rule, data, hash
from events
where job_id = $1
    and version > $2
    and position >= (select first_position from jobs where id = $1)
order by version
limit 1
