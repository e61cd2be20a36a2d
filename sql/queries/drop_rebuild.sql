-- What a replay that did not end leaves behind.
drop table if exists jobs_rebuilt, job_spans_rebuilt, event_ids_rebuilt
