-- $1 number, $2 line. Of two writers of one number the second is refused.
insert into anchors (number, line) values ($1, $2)
