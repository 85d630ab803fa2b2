-- Decides a call by its estimate, once, and remembers what was charged, and where: the twin of `reserve` in limiter-core's
-- reservation.rs.
--
-- KEYS[1]            the state of an API key
-- KEYS[2], KEYS[3]   its reservations, and their ids by the time until which they are remembered
-- ARGV[1]            the id
-- ARGV[2], ARGV[3]   as decide.lua takes them: the field of the asset, and a call
-- ARGV[4], ARGV[5]   how long the reservation is to be remembered, in ms, and how many may be
-- Returns what decide.lua does for a new call, else { letter, time, record or false, what decide.lua would return }: P for
-- one that was allowed before, O for another one of the same id, N where no more can be remembered.
--include once.lua
local key, id, field, calls = KEYS[1], ARGV[1], ARGV[2], ARGV[3]
local order, life = KEYS[3], ARGV[4] + 0
local record = redis.call('HGET', KEYS[2], id)
if record then
--include reservation.lua
  if ends_at > now then
    if sub(record, 10, 37) ~= sub(calls, 10) or sub(record, 110) ~= field then
      return { 'O', time[1], time[2], record }
    end
    return { 'P', time[1], time[2], record, as_it_stands(key, field) }
  end
end

--include full.lua
if full then calls = LOOKS .. sub(calls, 10) end
local reply = decide({ key }, { field, calls })
if not is_allowed(reply) then return reply end
if full then return { 'N', time[1], time[2], false, reply } end

-- The windows that admitted it are those that are stored now.
local met = redis.call('HMGET', key, 'h', field, 'w', 'w' .. sub(field, 2))
local h, a, w, asset_w = met[1], met[2], met[3], met[4]
local none = string.rep('\0', 15)
local global, asset = none, none
if byte(h, 2) % 16 > 0 then global = (w and #w == 6 and w or FIRST_WINDOWS) .. sub(h, 14, 22) end
if a then asset = (asset_w and #asset_w == 6 and asset_w or FIRST_WINDOWS) .. sub(a, 5, 13) end
local ends_at = math.min(now + life, MAX)
if passed > 0 then
  redis.call('HDEL', KEYS[2], _G.unpack(redis.call('ZRANGE', order, 0, passed - 1)))
  redis.call('ZREMRANGEBYRANK', order, 0, passed - 1)
end
redis.call('HSET', KEYS[2], id, pack('<BBi7', 1, 0, ends_at) .. sub(calls, 10) .. sub(calls, 17) .. string.rep('\0', 21)
  .. global .. asset .. field)
redis.call('ZADD', order, ends_at, id)
--expire
return reply
