-- $1 job id, $2 after this version, $3 up to this one. As audit_events, of one job.
select
    event.position, event.job_id, event.version, event.attempt, event.event_id, event.type,
    event.source, event.trace_id, event.seq,
    case when event.occurred_at between '0001-01-01Z' and '9999-12-31T23:59:59.999999Z'
        then event.occurred_at end as occurred_at,
    case when event.recorded_at between '0001-01-01Z' and '9999-12-31T23:59:59.999999Z'
        then event.recorded_at end as recorded_at,
    event.rule, event.data, event.hash,
    coalesce(
        (select row (kept.position, kept.version, kept.attempt, kept.seq)
                is not distinct from row (event.position, event.version, event.attempt, event.seq)
            from event_ids kept
            where kept.job_id = event.job_id and kept.event_id = event.event_id
            limit 1),
        (select true from jobs, (select max(end_position) as position from log_archives) archived
            where jobs.id = event.job_id and jobs.final_position < archived.position
                and event.position < archived.position)) as has_id
from events event
where event.job_id = $1 and event.version > $2 and event.version <= $3
order by event.version, event.position
