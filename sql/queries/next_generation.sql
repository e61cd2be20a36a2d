-- $1 counts. Whoever remembers jobs of the old projections looks again.
update log_head set generation = generation + 1, counts = $1
