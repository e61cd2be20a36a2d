-- The columns and the two indexes of our log's table, and nothing else: no checks, no triggers, no
-- partitions, no other table to keep.
create table floor_events (
    position    bigint      generated always as identity primary key,
    job_id      bigint      not null,
    version     bigint      not null,
    attempt     integer     not null,
    event_id    uuid        not null,
    type        text        not null,
    source      text        not null,
    trace_id    uuid        not null,
    seq         bigint,
    occurred_at timestamptz not null,
    recorded_at timestamptz not null,
    rule        text,
    data        jsonb       not null,
    hash        bytea       not null
);
create index floor_events_by_job on floor_events (job_id, version);
