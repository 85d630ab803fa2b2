-- Counts what was allowed elsewhere, once, however often it is told: the twin of `record` in limiter-core's reservation.rs.
--
-- KEYS[1], KEYS[2]   the state of an API key, and the ids of its records by the time until which they are remembered
-- ARGV[1]            the id
-- ARGV[2], ARGV[3]   as decide.lua takes them: the field of the asset, and a call
-- ARGV[4], ARGV[5]   how long the id is to be remembered, in ms, and how many may be
-- ARGV[6], ARGV[7]   the id of an earlier record that this one confirms, or '', and how long it stays remembered, in ms
-- Returns { letter, time, false }: K for what is counted, now or before, with what crossed.lua tells of thresholds; U for a
-- key that is not known, N where no more can be remembered. Or a letter alone, as decide.lua does for a key that cannot be
-- read.
local key, order, field, life = KEYS[1], KEYS[2], ARGV[2], ARGV[4] + 0
local function say(letter) return { letter, time[1], time[2], false } end
local met = redis.call('HMGET', key, 'h', field)
local h, a = met[1], met[2]
if not h then return say('U') end
local known = redis.call('ZSCORE', order, ARGV[1])
if known and known + 0 > now then return say('K') end
--include full.lua
if full then return say('N') end

if #h ~= 64 then return byte(h) ~= 1 and 'F' or 'C' end
local first, minute, day, ends, left1, left2, left3, left4, credits_left = unpack('<I5', h), unpack('<i5i4i7i7i7i7i7i7', h, 14)
local wrong, count = false, 1
--include met.lua
--include changed.lua

-- What is left in the windows of a scope once the call is counted there.
local requests, input, output, credits = unpack('<I7I7I7I7', ARGV[3], 10)
local function counted(types, left1, left2, left3, left4, limit1, limit2, limit3, limit4, told)
  local function tokens(type)
    return type == 0 and input + output or type == 1 and output or input
  end
  local minute_type = (types - 1) % 3
  local day_type = (types - 1 - minute_type) / 3
  return changed(left1, limit1, told, 1, -requests), changed(left2, limit2, told, 8, -tokens(minute_type)),
    changed(left3, limit3, told, 64, -requests), changed(left4, limit4, told, 512, -tokens(day_type))
end

if types > 0 then
  left1, left2, left3, left4 = counted(types, left1, left2, left3, left4, limit1, limit2, limit3, limit4,
    told)
end
if a then
  asset_left1, asset_left2, asset_left3, asset_left4 = counted(asset_types, asset_left1, asset_left2, asset_left3,
    asset_left4, asset_limit1, asset_limit2, asset_limit3, asset_limit4, asset_told)
end
credits_left = changed(credits_left, budget, told, 4096, -credits)
--include crossed.lua
if passed > 0 then redis.call('ZREMRANGEBYRANK', order, 0, passed - 1) end
redis.call('ZADD', order, math.min(now + life, MAX), ARGV[1])
if ARGV[6] ~= '' and ARGV[6] ~= ARGV[1] then
  local confirmed, sooner = redis.call('ZSCORE', order, ARGV[6]), math.min(now + ARGV[7], MAX)
  if confirmed and confirmed + 0 > sooner then redis.call('ZADD', order, sooner, ARGV[6]) end
end
--expire
return { 'K', time[1], time[2], false, crossed }
