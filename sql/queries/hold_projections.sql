-- Before a snapshot is taken: from then on no rebuilt projections take the place of these, in which an
-- older snapshot would see but a part of the rows.
lock table jobs, job_spans, event_ids in access share mode
