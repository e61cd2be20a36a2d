"""What may happen to a job on a cluster: one row each, replayed in every way it may be seen."""
