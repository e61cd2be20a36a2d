-- A log that was empty may be given the history of one job of another log, to look at. Its events keep
-- their positions, for their hashes cover them; so up to there the log has gaps where the other log
-- held other jobs. What is recorded here afterwards follows without gaps.

create table imports (
    job_id         bigint      not null,
    log_id         uuid        not null,
    first_position bigint      not null check (first_position > 0),
    last_position  bigint      not null check (last_position >= first_position),
    moment         jsonb       not null,
    imported_at    timestamptz not null default clock_timestamp(),
    only_one       boolean     primary key default true check (only_one)
);

comment on table imports is 'The job that was brought in from another log, if one was.';
comment on column imports.log_id is 'The log that it comes from.';
comment on column imports.last_position is 'Up to here the log holds this job''s events and no other.';
comment on column imports.moment is 'When it was exported and what was known then; its clock stands.';

grant select, insert on imports to epochlog_service;
