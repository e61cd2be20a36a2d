-- $1 name, $2 holder, $3 term, $4 for how long from now. Answers the term; no row where another has
-- taken the lease since.
update leases set renewed_at = clock_timestamp(), expires_at = clock_timestamp() + $4
where name = $1 and holder = $2 and term = $3
returning term
