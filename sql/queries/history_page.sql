-- $1 job id, $2 after this version, $3 up to this position or null, $4 limit. A page of what the log
-- held then. The position must not look like a bound that an index could serve: the planner would
-- rather read the positions of all jobs than this job's events.
select position, job_id, version, attempt, event_id, type, source, trace_id, seq, occurred_at,
    recorded_at, rule, data, hash
from events
where job_id = $1
    and version > $2
    and position + 0 <= coalesce($3::bigint, (select position from log_head))
order by version
limit $4
