-- $1 after this position, $2 before this one, $3 limit. What stands online in a range, by its hash.
select position, type, hash
from events
where position > $1 and position < $2
order by position
limit $3
