-- $1 … $12: one array a column of jobs. An imported job is not looked after.
insert into jobs (id, version, position, hash, status, watched, labels, idempotency_key, state,
    first_position, final_position, pulse)
select id, version, position, hash, status, false, labels, idempotency_key, state,
    first_position, final_position, pulse
from unnest(
    $1::bigint[], $2::bigint[], $3::bigint[], $4::bytea[], $5::text[], $6::boolean[],
    $7::jsonb[], $8::text[], $9::jsonb[], $10::bigint[], $11::bigint[], $12::jsonb[])
    as job (id, version, position, hash, status, watched, labels, idempotency_key, state,
        first_position, final_position, pulse)
