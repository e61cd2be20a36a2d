-- The job that was brought in from another log, if one was.
select job_id, log_id, last_position, moment from imports
