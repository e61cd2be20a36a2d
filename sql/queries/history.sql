-- $1 job id, $2 up to this position or null, $3 recorded up to this time or null.
select position, job_id, version, attempt, event_id, type, source, trace_id, seq, occurred_at,
    recorded_at, rule, data, hash
from events
where job_id = $1
    and ($2::bigint is null or position <= $2)
    and ($3::timestamptz is null or recorded_at <= $3)
order by version
