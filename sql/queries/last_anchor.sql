-- The number of the last anchor, or null where there is none.
select max(number) from anchors
