-- Every job that is not final, newest first, and since when it stands as it does.
select
    j.state || j.pulse as state,
    (select recorded_at from job_spans where job_id = j.id order by position desc limit 1) as since
from jobs j
where j.status in ('pending', 'queued', 'running')
order by j.id desc
