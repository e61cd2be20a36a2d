-- $1 position. How many jobs had each status there; no row before the first event.
select counts from job_spans where position <= $1 order by position desc limit 1
