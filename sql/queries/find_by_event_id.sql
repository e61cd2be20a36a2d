-- $1 job ids, $2 event ids, in pairs: the events that are recorded already. One index probe a pair.
select e.position, e.job_id, e.version, e.attempt, e.event_id, e.type, e.source, e.trace_id, e.seq,
    e.occurred_at, e.recorded_at, e.rule, e.data, e.hash
from unnest($1::bigint[], $2::uuid[]) as asked (job_id, event_id)
cross join lateral (
    select * from events where job_id = asked.job_id and event_id = asked.event_id limit 1
) e
