-- $1 from this position, $2 before this one, $3 after this job and $4 version, $5 limit. The events
-- of a range, job by job.
select position, job_id, version, attempt, event_id, type, source, trace_id, seq, occurred_at,
    recorded_at, rule, data, hash
from events
where position >= $1 and position < $2 and (job_id, version) > ($3, $4)
order by job_id, version
limit $5
