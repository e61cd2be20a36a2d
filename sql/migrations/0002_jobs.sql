-- The read model: each job as its events leave it, written in the append's own transaction.

create table jobs (
    id              bigint      primary key,
    version         bigint      not null,
    position        bigint      not null,
    hash            bytea       not null,
    status          text        not null
        check (status in ('pending', 'queued', 'running', 'succeeded', 'failed', 'cancelled')),
    watched         boolean     not null,
    labels          jsonb       not null,
    idempotency_key text        unique,
    state           jsonb       not null
);

comment on column jobs.watched is 'Not final, or a process or pod of it was not seen gone yet.';
comment on column jobs.hash is 'The hash of the job''s last event.';
comment on column jobs.state is 'The whole folded state, as projections.job.JobState.';

create index jobs_by_status on jobs (status, id desc);
create index jobs_by_label on jobs using gin (labels jsonb_path_ops);
create index jobs_watched on jobs (id) where watched;

grant select, insert, update on jobs to epochlog_service;
