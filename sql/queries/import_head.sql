-- $1 position, $2 job id, $3 time, $4 counts. Where the log ends after an import.
update log_head set position = $1, job_id = $2, recorded_at = $3, counts = $4
