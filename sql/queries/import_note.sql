-- $1 job id, $2 the log that it comes from, $3 first position, $4 last position, $5 moment
insert into imports (job_id, log_id, first_position, last_position, moment)
values ($1, $2, $3, $4, $5)
