-- Below deadlock_timeout: where we and another wait for each other, we are the one to give up.
set local lock_timeout = '800ms'
