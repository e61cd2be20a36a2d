-- $1 job id, $2 after this version, $3 type or null, $4 limit
select position, job_id, version, attempt, event_id, type, source, trace_id, seq, occurred_at,
    recorded_at, rule, data, hash
from events
where job_id = $1
    and version > $2
    and ($3::text is null or type = $3)
order by version
limit $4
