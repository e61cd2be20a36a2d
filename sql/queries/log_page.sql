-- $1 after this position, $2 up to this one or null, $3 job ids or null for all, $4 limit. The last
-- position must not look like a bound that an index could serve: the planner would take the range
-- for a small one, and read and sort all that lies behind $1.
select position, job_id, version, attempt, event_id, type, source, trace_id, seq, occurred_at,
    recorded_at, rule, data, hash
from events
where position > $1
    and position + 0 <= coalesce($2::bigint, (select position from log_head))
    and ($3::bigint[] is null or job_id = any ($3))
order by position
limit $4
