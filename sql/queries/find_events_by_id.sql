-- $1 job ids, $2 event ids, in pairs: the events recorded already under these ids. One index probe
-- a pair; an event that was compacted since has only its place.
select i.job_id as known_job, i.event_id as known_id, i.position as known_position,
    i.version as known_version,
    e.position, e.job_id, e.version, e.attempt, e.event_id, e.type, e.source, e.trace_id, e.seq,
    e.occurred_at, e.recorded_at, e.rule, e.data, e.hash
from unnest($1::bigint[], $2::uuid[]) as asked (job_id, event_id)
cross join lateral (
    select * from event_ids where job_id = asked.job_id and event_id = asked.event_id limit 1
) i
left join lateral (
    select * from events
    where position = i.position and event_id = i.event_id and type <> 'heartbeats'
) e on true
