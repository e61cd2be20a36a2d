-- $1 idempotency keys
select idempotency_key, id from jobs where idempotency_key = any ($1::text[])
