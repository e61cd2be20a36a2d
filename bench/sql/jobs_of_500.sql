-- The jobs that have about 500 events, and where their stories begin and end.
select job_id as id, min(position) as first, max(position) as last
from events
group by job_id
having count(*) between 450 and 550
order by job_id
