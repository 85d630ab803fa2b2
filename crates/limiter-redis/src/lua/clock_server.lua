-- The time is the server's own, read once: it may move while a script runs. A global costs more to read than a local.
local redis, struct = redis, struct
local time = redis.call('TIME')
local second = time[1] + 0
local unpack, pack = struct.unpack, struct.pack
