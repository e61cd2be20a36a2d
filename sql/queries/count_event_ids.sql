-- $1 after this job id, $2 up to this one or null, $3 up to this position. How many ids are kept.
select job_id, count(*) as ids
from event_ids
where job_id > $1 and ($2::bigint is null or job_id <= $2) and position <= $3
group by job_id
order by job_id
