-- $1 position. The jobs that have events after it.
select distinct job_id from events where position > $1
