-- The last anchor, or nulls where there is none; also whose log this is, where it ends, and the time.
select
    clock_timestamp() as now,
    log_identity.id as log_id,
    log_head.position,
    anchors.number,
    anchors.line
from log_identity
cross join log_head
left join anchors on anchors.number = (select max(number) from anchors)
