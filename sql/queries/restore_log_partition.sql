-- $1 first position, $2 manifest, $3 digest of no roll-ups, $4 signature
select restore_log_partition($1, $2, $3, $4)
