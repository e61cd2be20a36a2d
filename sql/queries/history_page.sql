-- $1 job id, $2 after this version, $3 up to this position or null, $4 limit. A page of what the log
-- held then. The job's first and last positions keep it to the ranges that hold the job.
select position, job_id, version, attempt, event_id, type, source, trace_id, seq, occurred_at,
    recorded_at, rule, data, hash
from events
where job_id = $1
    and version > $2
    and position >= (select first_position from jobs where id = $1)
    and position <= coalesce($3::bigint, (select position from log_head))
order by version
limit $4
