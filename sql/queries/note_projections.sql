-- $1 version. The stored projections are of this version of the folds from now on.
update projections set version = $1, built_at = clock_timestamp()
