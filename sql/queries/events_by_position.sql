-- $1 after this position, $2 up to this one, $3 limit. A page of the log in its one order.
select position, job_id, version, attempt, event_id, type, source, trace_id, seq, occurred_at,
    recorded_at, rule, data, hash
from events
where position > $1 and position <= $2
order by position
limit $3
