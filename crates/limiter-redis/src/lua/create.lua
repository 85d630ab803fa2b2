-- Creates an API key, whose limits are in force at once. With this it exists.
--
-- KEYS[1], KEYS[2]   its state and its record
-- ARGV[1]            the server time after which this must not happen any more, in unix milliseconds
-- ARGV[2]            kind, incarnation, expiry, budget, thresholds and mode, global limits
-- ARGV[3] to [8]     id, workspace, name, digest and masked access key, format of the record
-- ARGV[9]            how many assets follow: the field of each, and its limits
local real = redis.call('TIME')
if real[1] * 1000 + math.floor(real[2] / 1000) > tonumber(ARGV[1]) then return { 'late' } end
if redis.call('EXISTS', KEYS[1]) + redis.call('EXISTS', KEYS[2]) > 0 then return { 'taken' } end

local MAX, NO_LIMIT = 9007199254740991, -1
local minute, day = (second - second % 60) / 60 + 1, (second - second % 86400) / 86400 + 1
local byte, T = string.byte, string.sub(ARGV[2], 20, 24)
local kind, incarnation, ends, budget, limit1, limit2, limit3, limit4, minute_type, day_type =
  unpack('<BI4i7i7xxxxxi7i7i7i7BB', ARGV[2])
--include told.lua
-- What is ahead of a limit of which nothing is used yet.
local function left(limit) return limit == NO_LIMIT and MAX or limit - kept(limit, 0, 1) end

local types, left1, left2, left3, left4 = 1 + minute_type + 3 * day_type, left(limit1), left(limit2), left(limit3), left(limit4)
local window1, window2 = minute, day
if limit1 == NO_LIMIT and limit2 == NO_LIMIT and limit3 == NO_LIMIT and limit4 == NO_LIMIT then
  types, window1, window2, left1, left2, left3, left4 = 0, 0, 0, 0, 0, 0, 0
end
redis.call('HSET', KEYS[1],
  'h', pack('<BBI2BI4I4i5i4i7i7i7i7i7i7', 1, types + 16 * kind, 0, byte(T), 1, incarnation, window1, window2, ends,
    left1, left2, left3, left4, left(budget)),
  'H', pack('<i7i7i7i7i7B', budget, limit1, limit2, limit3, limit4, 0),
  'T', T)
-- All counts before all limits: calls read the counts, and a server looks through a small hash from its beginning.
for asset = 10, 9 + 2 * ARGV[9], 2 do
  limit1, limit2, limit3, limit4, minute_type, day_type = unpack('<i7i7i7i7BB', ARGV[asset + 1])
  redis.call('HSET', KEYS[1], ARGV[asset], pack('<BBI2i5i4dddd', 1, 1 + minute_type + 3 * day_type, 0, minute, day,
    left(limit1), left(limit2), left(limit3), left(limit4)))
end
for asset = 10, 9 + 2 * ARGV[9], 2 do
  limit1, limit2, limit3, limit4 = unpack('<i7i7i7i7', ARGV[asset + 1])
  redis.call('HSET', KEYS[1], 'A' .. string.sub(ARGV[asset], 2),
    pack('<i7i7i7i7B', limit1, limit2, limit3, limit4, 0))
end
redis.call('HSET', KEYS[2], 'id', ARGV[3], 'workspace', ARGV[4], 'name', ARGV[5], 'digest', ARGV[6], 'masked', ARGV[7],
  'format', ARGV[8], 'version', 1)
return { 'created', time[1], time[2], redis.call('HGETALL', KEYS[1]), redis.call('HGETALL', KEYS[2]) }
