-- $1 from this number on, $2 limit
select number, line from anchors where number >= $1 order by number limit $2
