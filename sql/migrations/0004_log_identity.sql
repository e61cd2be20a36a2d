-- Tells this log from every other: a state folder that serves one must not serve another.

create table log_identity (
    id       uuid    not null default gen_random_uuid(),
    only_one boolean primary key default true check (only_one)
);

insert into log_identity default values;

grant select on log_identity to epochlog_service;
