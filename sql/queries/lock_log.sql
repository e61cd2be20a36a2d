-- $1 lock key. Writers of every process take turns, and the lock is let go only when the commit is
-- visible, so positions become visible in their order. A statement of its own: the next statement
-- must take its snapshot after the lock is held.
select pg_advisory_xact_lock($1)
