-- $1 first position, $2 manifest, $3 digest of the roll-ups, $4 jobs waited for, $5 signature
select slim_log_partition($1, $2, $3, $4, $5)
