-- Every job that the supervisor looks after, by who is served first. A job that was imported from
-- another log lives there, if it still does.
select state || pulse as state, clock_timestamp() as now
from jobs
where watched and id is distinct from (select job_id from imports)
order by (state ->> 'priority')::bigint desc, id
