-- Of several services on one log, one supervises: the one that holds the lease. It renews it as long as
-- it lives, and another may take it once it has expired, by this database's clock. Who takes it opens a
-- new term, which is noted at the log's end too: a batch that was decided in an older term finds the log
-- to end elsewhere, as if another had been faster, and what the old holder asked for is refused.

create table leases (
    name       text        primary key,
    holder     uuid,
    term       bigint      not null default 0 check (term >= 0),
    renewed_at timestamptz,
    expires_at timestamptz,
    check ((holder is null) = (expires_at is null))
) with (fillfactor = 10);

comment on column leases.holder is 'The state folder of the service that holds it; null where it was given back.';
comment on column leases.term is 'Grows by one whenever it is taken, by whoever.';

insert into leases (name) values ('supervisor');

alter table log_head add column term bigint not null default 0;

comment on column log_head.term is 'The newest term of the lease; what was decided in another is not written.';

grant select, update on leases to epochlog_service;
