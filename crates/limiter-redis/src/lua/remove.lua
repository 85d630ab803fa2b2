-- Deletes an API key. With this it does not exist any more, for any process.
--
-- KEYS[1], KEYS[2]     its state and its record
-- KEYS[3] to KEYS[6]   its reservations, their ids by time, and the ids of its checks and of its records by time
-- ARGV[1], ARGV[2]     the server time after which this must not happen any more, and its workspace
local real = redis.call('TIME')
if real[1] * 1000 + math.floor(real[2] / 1000) > tonumber(ARGV[1]) then return { 'late' } end
if redis.call('HGET', KEYS[2], 'workspace') ~= ARGV[2] then return { 'missing' } end
-- It may be much, and is freed in the background.
redis.call('UNLINK', KEYS[3], KEYS[4], KEYS[5], KEYS[6])
redis.call('DEL', KEYS[1], KEYS[2])
return { 'deleted' }
