-- Where the log ends, and the time that this batch is recorded at.
select
    clock_timestamp() as now,
    coalesce((select e.position from events e order by e.position desc limit 1), 0) as position,
    coalesce((select j.id from jobs j order by j.id desc limit 1), 0) as job_id
