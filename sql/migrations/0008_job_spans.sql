-- How the fleet stood at any position: a row for each event that changed where a job stands, and
-- for each job from which event to which it was not final.

create table job_spans (
    position       bigint      primary key,
    job_id         bigint      not null,
    version        bigint      not null,
    recorded_at    timestamptz not null,
    status         text        not null,
    attempt        integer     not null,
    verdict        text        not null,
    reason_code    text        not null,
    reason_message text        not null,
    counts         jsonb       not null
);

comment on table job_spans is 'From this position on the job stood like this, until its next row.';
comment on column job_spans.counts is 'How many jobs had each status from this position on.';

create index job_spans_by_job on job_spans (job_id, position);

alter table jobs
    add column first_position bigint,
    add column final_position bigint;

update jobs set
    first_position = (select min(e.position) from events e where e.job_id = jobs.id),
    final_position = (
        select min(e.position) from events e
        where e.job_id = jobs.id and e.rule is null
            and e.type in ('succeeded', 'failed', 'cancelled'));

alter table jobs alter column first_position set not null;
create index jobs_alive on jobs using gist (int8range(first_position, final_position));

-- What every callback moves stands in a small column of its own, and the large rest out of line: so
-- a heartbeat rewrites some hundred bytes in place and no index.
alter table jobs
    add column pulse jsonb not null default '{}',
    alter column state set storage external;
alter table jobs set (fillfactor = 50, toast_tuple_target = 256);

update jobs set
    pulse = jsonb_build_object(
        'version', state -> 'version',
        'position', state -> 'position',
        'alive_at', state -> 'alive_at',
        'advanced_at', state -> 'advanced_at',
        'progress', state -> 'progress',
        'attempt_progress', state -> 'attempt_progress'),
    state = state
        - '{version,position,alive_at,advanced_at,progress,attempt_progress}'::text[];

comment on column jobs.state is 'The folded state, as projections.job.JobState, but for the pulse.';
comment on column jobs.pulse is 'The fields of the state that every callback moves.';
comment on column jobs.first_position is 'The position of the job''s first event.';
comment on column jobs.final_position is 'The position of the event that made the job final.';

grant select, insert on job_spans to epochlog_service;
