-- $1 name, $2 who asks, $3 for how long, $4 whether whoever held it under this name is known to be dead.
-- Takes the lease where it is free, and opens a term with which nothing decided before agrees. Answers
-- the term; no row where another holds it.
with taken as (
    update leases set
        holder = $2,
        term = term + 1,
        renewed_at = clock_timestamp(),
        expires_at = clock_timestamp() + $3
    where name = $1 and (holder is null or expires_at <= clock_timestamp() or (holder = $2 and $4))
    returning term
),
fenced as (
    update log_head set term = taken.term from taken
)
select term from taken
