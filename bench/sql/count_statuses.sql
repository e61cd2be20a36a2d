-- $1 up to this position. How many jobs had each status then, by the events alone.
select
    case e.type
        when 'created' then 'pending'
        when 'retry_scheduled' then 'queued'
        when 'heartbeat' then 'running'
        when 'trainer_event' then 'running'
        else e.type
    end as status,
    count(*)
from events e
join (
    select max(position) as position
    from events
    where position <= $1 and rule is null and type in ('created', 'queued', 'running',
        'heartbeat', 'trainer_event', 'retry_scheduled', 'succeeded', 'failed', 'cancelled')
    group by job_id
) last using (position)
group by 1
