-- A few rows of each job are looked for: no index is worth reading as a whole.
set local enable_bitmapscan = off
