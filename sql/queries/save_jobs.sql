-- $1 ids, $2 versions, $3 positions, $4 hashes, $5 statuses, $6 watched, $7 labels,
-- $8 idempotency keys, $9 states
insert into jobs (id, version, position, hash, status, watched, labels, idempotency_key, state)
select *
from unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::bytea[], $5::text[], $6::boolean[],
    $7::jsonb[], $8::text[], $9::jsonb[])
on conflict (id) do update set
    version = excluded.version,
    position = excluded.position,
    hash = excluded.hash,
    status = excluded.status,
    watched = excluded.watched,
    state = excluded.state
