-- $1 hash
select id, name, role from api_tokens where hash = $1
