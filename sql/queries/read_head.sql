-- Where the log ends, and the time at which the next batch is recorded: the database's clock,
-- which never goes back in the log.
select
    greatest(clock_timestamp(), recorded_at) as now,
    position,
    job_id,
    counts,
    generation,
    term,
    coalesce((select p.end_position from log_partitions p order by p.end_position desc limit 1), 1)
        as end_position
from log_head
