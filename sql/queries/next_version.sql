-- $1 job id, $2 version. The job's next version of which there is an event.
select min(version) from events where job_id = $1 and version > $2
