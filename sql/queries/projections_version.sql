-- The oldest version of the folds that a stored projection is of.
select min(version) from projections
