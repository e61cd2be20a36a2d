-- $1 job ids, $2 attempts, $3 seqs, in triples: the first event recorded under each.
select i.job_id as known_job, i.attempt as known_attempt, i.seq as known_seq,
    i.position as known_position, i.version as known_version,
    e.position, e.job_id, e.version, e.attempt, e.event_id, e.type, e.source, e.trace_id, e.seq,
    e.occurred_at, e.recorded_at, e.rule, e.data, e.hash
from unnest($1::bigint[], $2::integer[], $3::bigint[]) as asked (job_id, attempt, seq)
cross join lateral (
    select * from event_ids
    where job_id = asked.job_id and attempt = asked.attempt and seq = asked.seq
    order by position
    limit 1
) i
left join lateral (
    select * from events
    where position = i.position and event_id = i.event_id and type <> 'heartbeats'
) e on true
