-- $1 position. The last version of each job that has events after it, and where the log ends: both
-- as of one moment.
select head.position as log_position, jobs.id, jobs.version, jobs.hash
from log_head head
cross join (select distinct job_id from events where position > $1) changed
join jobs on jobs.id = changed.job_id
order by jobs.id
