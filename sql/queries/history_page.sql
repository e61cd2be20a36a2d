-- $1 job id, $2 after this version, $3 up to this position or null, $4 recorded up to this time or
-- null, $5 limit. A page of what the log held at that moment.
select position, job_id, version, attempt, event_id, type, source, trace_id, seq, occurred_at,
    recorded_at, rule, data, hash
from events
where job_id = $1
    and version > $2
    and ($3::bigint is null or position <= $3)
    and ($4::timestamptz is null or recorded_at <= $4)
order by version
limit $5
