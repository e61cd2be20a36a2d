lock table jobs, job_spans, event_ids in access exclusive mode
