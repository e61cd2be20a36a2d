-- Every job that the supervisor looks after, by who is served first.
select state, clock_timestamp() as now
from jobs
where watched
order by (state ->> 'priority')::bigint desc, id
