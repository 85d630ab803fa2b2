-- The time is the server's own, read once: it may move while a script runs. A global costs more to read than a local.
local redis, struct = redis, struct
local time, clock_arguments = redis.call('TIME'), 0
local second = time[1] + 0
