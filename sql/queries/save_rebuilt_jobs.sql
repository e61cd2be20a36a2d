-- $1 … $12 one array a column of jobs, as in append_batch.
insert into jobs_rebuilt (id, version, position, hash, status, watched, labels, idempotency_key,
    state, first_position, final_position, pulse)
select * from unnest(
    $1::bigint[], $2::bigint[], $3::bigint[], $4::bytea[], $5::text[], $6::boolean[], $7::jsonb[],
    $8::text[], $9::jsonb[], $10::bigint[], $11::bigint[], $12::jsonb[])
on conflict (id) do update set
    version = excluded.version,
    position = excluded.position,
    hash = excluded.hash,
    status = excluded.status,
    watched = excluded.watched,
    labels = excluded.labels,
    idempotency_key = excluded.idempotency_key,
    state = excluded.state,
    first_position = excluded.first_position,
    final_position = excluded.final_position,
    pulse = excluded.pulse
