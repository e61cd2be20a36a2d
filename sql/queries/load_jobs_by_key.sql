-- $1 idempotency keys
select idempotency_key, id, state from jobs where idempotency_key = any ($1::text[])
