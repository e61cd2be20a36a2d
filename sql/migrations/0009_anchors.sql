-- Signed statements of how far every job's chain had come, so that a log whose end is cut off is
-- known for it. A copy of each line is kept outside the database, too.

create table anchors (
    number bigint primary key check (number > 0),
    line   text   not null
);

comment on table anchors is 'Append only, as events are. The number decides which writer was first.';
comment on column anchors.line is 'JSON: the anchor, with the digest of the line before and a signature.';

create trigger anchors_are_immutable before update or delete on anchors
    for each row execute function refuse_change();
create trigger anchors_are_immutable_as_a_whole before update or delete or truncate on anchors
    for each statement execute function refuse_change();
alter table anchors enable always trigger anchors_are_immutable;
alter table anchors enable always trigger anchors_are_immutable_as_a_whole;

grant select, insert on anchors to epochlog_service;
