-- Writers take a lock on this table before any other, so none is under way once we have it; readers
-- of the head do not wait for us, nor we for them.
lock table log_head in exclusive mode
