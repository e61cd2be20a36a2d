-- $1 name, $2 holder, $3 term. Gives the lease back, unless another has taken it since.
update leases set holder = null, expires_at = null
where name = $1 and holder = $2 and term = $3
returning term
