-- $1 name, $2 role, $3 hash
insert into api_tokens (name, role, hash) values ($1, $2, $3) returning id, created_at
