-- Ends a reservation, as settled or as cancelled: the twin of `settle` and `cancel` in limiter-core's reservation.rs.
--
-- KEYS[1], KEYS[2]   the state of an API key, and its reservations
-- ARGV[1], ARGV[2]   the id, and how it ends: 1 settled, with input, output and credits in 7 bytes each, -1 for what is as
--                    estimated; or 2 cancelled; then the token of this call in 16 bytes. An ended reservation holds the token
--                    of the call that ended it, in place of the windows, which are no longer used
-- Returns { letter, time, record or false }: K for what has ended so, now or before, with what crossed.lua tells of
-- thresholds; U for a key and X for a reservation that is not known, I for a sum that is too large, D for what has ended
-- otherwise. Or a letter alone, as decide.lua does for a key that cannot be read.
local key, id, ending = KEYS[1], ARGV[1], byte(ARGV[2])
local record = redis.call('HGET', KEYS[2], id)
--include known.lua
local to_input, to_output, to_credits = 0, 0, 0
if ending == 1 then
  to_input, to_output, to_credits = unpack('<i7i7i7', ARGV[2], 2)
  if to_input < 0 then to_input = input end
  if to_output < 0 then to_output = output end
  if to_credits < 0 then to_credits = credits end
  if to_input + to_output > MAX then return say('I') end
end
local actual = pack('<I7I7I7', to_input, to_output, to_credits)
if ended > 0 then return say(ended == ending and sub(record, 59, 79) == actual and 'K' or 'D') end

local field = sub(record, 110)
local met = redis.call('HMGET', key, 'h', field, 'w', 'w' .. sub(field, 2))
local h, a, w, asset_w = met[1], met[2], met[3], met[4]
if not h then return say('U') end
if #h ~= 64 then return byte(h) ~= 1 and 'F' or 'C' end
local first, minute, day, ends, left1, left2, left3, left4, credits_left = unpack('<I5', h), unpack('<i5i4i7i7i7i7i7i7', h, 14)
local wrong, count = false, 1
--include met.lua

--include changed.lua
-- What is left in the windows of a scope. One that is still the one that admitted the call is as if the actual cost had
-- been charged there; in any other, what exceeds the estimate counts.
local requests = ending == 2 and unpack('<I7', record, 10) or 0
local more_input, more_output = math.max(to_input - input, 0), math.max(to_output - output, 0)
local function settled(types, minute, day, left1, left2, left3, left4, limit1, limit2, limit3, limit4,
  told, windows, admitted)
  local counting, minutes, days = 1, 0, 0
  if windows and #windows == 6 then counting, minutes, days = unpack('<I4BB', windows) end
  local its_counting, its_minutes, its_days, its_minute, its_day = unpack('<I4BBi5i4', record, admitted)
  local function tokens(type, total, output, input)
    return type == 0 and total or type == 1 and output or input
  end
  local minute_type = (types - 1) % 3
  local day_type = (types - 1 - minute_type) / 3
  local less_input, less_output = input - to_input, output - to_output
  local less = less_input + less_output
  local more = more_input + more_output
  if its_counting == counting and its_minutes == minutes and its_minute == minute then
    left1 = changed(left1, limit1, told, 1, requests)
    left2 = changed(left2, limit2, told, 8, tokens(minute_type, less, less_output, less_input))
  else
    left2 = changed(left2, limit2, told, 8, -tokens(minute_type, more, more_output, more_input))
  end
  if its_counting == counting and its_days == days and its_day == day then
    left3 = changed(left3, limit3, told, 64, requests)
    left4 = changed(left4, limit4, told, 512, tokens(day_type, less, less_output, less_input))
  else
    left4 = changed(left4, limit4, told, 512, -tokens(day_type, more, more_output, more_input))
  end
  return left1, left2, left3, left4
end

if types > 0 then
  left1, left2, left3, left4 = settled(types, minute, day, left1, left2, left3, left4,
    limit1, limit2, limit3, limit4, told, mended_w or w, 80)
end
if a then
  asset_left1, asset_left2, asset_left3, asset_left4 = settled(asset_types, asset_minute, asset_day,
    asset_left1, asset_left2, asset_left3, asset_left4,
    asset_limit1, asset_limit2, asset_limit3, asset_limit4,
    asset_told, mended_asset_w or asset_w, 95)
end
credits_left = changed(credits_left, budget, told, 4096, credits - to_credits)
--include crossed.lua
redis.call('HSET', KEYS[2], id, '\1' .. sub(ARGV[2], 1, 1) .. sub(record, 3, 58) .. actual .. sub(ARGV[2], -16) .. sub(record, 96))
return { 'K', time[1], time[2], record, crossed }
