-- $1 job id and $2 version: after this event, in the order of jobs and of their versions. $3 up to this
-- position of the log. $4 only jobs that went on after this position. $5 limit
select position, job_id, version, attempt, event_id, type, source, trace_id, seq, occurred_at,
    recorded_at, rule, data, hash
from events
where (job_id, version) > ($1, $2)
    and position <= $3
    and ($4::bigint = 0 or (select j.position from jobs j where j.id = events.job_id) > $4)
order by job_id, version
limit $5
