-- Which version of the folds made the stored projections. Version 0 is from before this table: where
-- the log holds events, `epochlog migrate` makes everything again.

create table projections (
    name     text        primary key,
    version  integer     not null,
    built_at timestamptz not null default clock_timestamp()
);

comment on table projections is 'The tables that are folded from the log, and by which version of the folds.';

insert into projections (name, version)
values ('jobs', 0), ('job_spans', 0), ('event_ids', 0), ('log_head', 0);

grant select on projections to epochlog_service;
