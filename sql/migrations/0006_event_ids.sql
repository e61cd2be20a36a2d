-- Which event an id stands for, across all ranges of the log, so that an event told twice is one
-- event. A callback without an id is known again by its attempt and its place in the trainer's count.

create table event_ids (
    job_id   bigint  not null,
    event_id uuid    not null,
    position bigint  not null,
    version  bigint  not null,
    attempt  integer not null,
    seq      bigint,
    primary key (job_id, event_id)
);

create index event_ids_by_seq on event_ids (job_id, attempt, seq) where seq is not null;

insert into event_ids (job_id, event_id, position, version, attempt, seq)
select job_id, event_id, position, version, attempt, seq from events;

grant select, insert, delete on event_ids to epochlog_service;
