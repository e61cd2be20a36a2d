-- $1 last position, $2 last job id, $3 counts. Where the log ends after its tables were loaded.
update log_head set
    position = $1,
    job_id = $2,
    counts = $3,
    recorded_at = (select recorded_at from events where position = $1)
