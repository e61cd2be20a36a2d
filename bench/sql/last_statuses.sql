-- The status of each job by its last event that has one: the least that any replay must do.
select
    e.job_id,
    case e.type
        when 'created' then 'pending'
        when 'retry_scheduled' then 'queued'
        when 'heartbeat' then 'running'
        when 'trainer_event' then 'running'
        else e.type
    end as status
from events e
join (
    select max(position) as position
    from events
    where rule is null and type in ('created', 'queued', 'running', 'heartbeat', 'trainer_event',
        'retry_scheduled', 'succeeded', 'failed', 'cancelled')
    group by job_id
) last using (position)
