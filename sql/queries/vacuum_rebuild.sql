-- The planner must know the new tables before anybody is sent to them.
vacuum (analyze) jobs_rebuilt, job_spans_rebuilt, event_ids_rebuilt
