-- What a call of an asset meets, at one instant.
--
-- KEYS[1]            the state of an API key
-- ARGV[1], ARGV[2]   the fields of the asset
local found = redis.call('HMGET', KEYS[1], 'h', 'H', ARGV[1], ARGV[2], 'T')
return { time[1], time[2], found[1], found[5] and found[2] and found[5] .. found[2], found[3], found[4] }
