-- Changes the configuration of an API key: name, expiry, budget, thresholds and mode at once, limits from the next window
-- of each kind. The twin of `KeyState::configure` in limiter-core.
--
-- KEYS[1], KEYS[2]   its state and its record
-- ARGV[1]            the server time after which this must not happen any more, in unix milliseconds
-- ARGV[2] to [5]     its workspace, the version that is changed, the new name, the most assets that may be counted
-- ARGV[6]            the next version of its limits, expiry, budget, thresholds and mode, global limits
-- ARGV[7]            how many assets follow: the field of each, and its limits
local real = redis.call('TIME')
if real[1] * 1000 + math.floor(real[2] / 1000) > tonumber(ARGV[1]) then return { 'late' } end
local record = redis.call('HMGET', KEYS[2], 'workspace', 'version', 'name', 'format')
if record[1] ~= ARGV[2] then return { 'missing' } end
if record[4] ~= '1' then return redis.error_reply('LIMITER newer ' .. KEYS[2]) end
if record[2] ~= ARGV[3] then return { 'conflict', record[2] } end

local sub, byte = string.sub, string.byte
-- The thresholds that are used next: those before the change, or those after it.
local T
--include told.lua
--include stage.lua
local NONE = pack('<i7i7i7i7B', NO_LIMIT, NO_LIMIT, NO_LIMIT, NO_LIMIT, 0)
local WANTS_NONE = pack('<i7i7i7i7BB', NO_LIMIT, NO_LIMIT, NO_LIMIT, NO_LIMIT, 0, 0)
local new_version, new_ends, new_budget = unpack('<I4i7i7', ARGV[6])

-- Returns whether a scope changed, and the scope with new limits; types are 0 while it is not counted. Last comes which
-- windows it has, if those are others.
local function configure(types, minute, day, left1, left2, left3, left4, told, bytes, at, wanted, windows)
  local want1, want2, want3, want4, want_minute, want_day = unpack('<i7i7i7i7BB', wanted)
  local is1, is2, is3, is4, is_minute, is_day = NO_LIMIT, NO_LIMIT, NO_LIMIT, NO_LIMIT, 0, 0
  if types > 0 then
    local flags, position
    is1, is2, is3, is4, flags, position = unpack('<i7i7i7i7B', bytes, at)
    is_minute = (types - 1) % 3
    is_day = (types - 1 - is_minute) / 3
    if flags % 4 > 0 then
      is1, is2, position = unpack('<i7i7', bytes, position)
      is_minute = flags % 4 - 1
    end
    if flags >= 4 then
      is3, is4 = unpack('<i7i7', bytes, position)
      is_day = (flags - flags % 4) / 4 - 1
    end
  end
  if want1 == is1 and want2 == is2 and want3 == is3 and want4 == is4 and want_minute == is_minute and want_day == is_day then
    return false
  end
  local limit1, limit2, limit3, limit4, minute_type, day_type, changed, new_windows
  if types > 0 then
    local was_minute, was_day = minute, day
    minute, day, left1, left2, left3, left4, limit1, limit2, limit3, limit4, minute_type, day_type, changed =
      stage(types, minute, day, left1, left2, left3, left4, bytes, at)
    if minute < was_minute or day < was_day then new_windows = mended(windows, minute < was_minute, day < was_day) end
    if minute > was_minute then told = told - told % 64 end
    if day > was_day then told = told - told % 4096 + told % 64 end
    -- A scope whose limits ended earlier does not find its old counts again.
    if changed == NONE then types = 0 end
  end
  if types == 0 then
    new_windows = pack('<I4BB', new_version, 0, 0)
    minute, day = (second - second % 60) / 60 + 1, (second - second % 86400) / 86400 + 1
    left1, left2, left3, left4, limit1, limit2, limit3, limit4 = MAX, MAX, MAX, MAX, NO_LIMIT, NO_LIMIT, NO_LIMIT, NO_LIMIT
    minute_type, day_type = 0, 0
    told = told - told % 4096
  end
  local flags, pending = 0, ''
  if want1 ~= limit1 or want2 ~= limit2 or want_minute ~= minute_type then
    flags, pending = want_minute + 1, pack('<i7i7', want1, want2)
  end
  if want3 ~= limit3 or want4 ~= limit4 or want_day ~= day_type then
    flags, pending = flags + 4 * (want_day + 1), pending .. pack('<i7i7', want3, want4)
  end
  bytes = pack('<i7i7i7i7B', limit1, limit2, limit3, limit4, flags) .. pending
  types = 1 + minute_type + 3 * day_type
  if bytes == NONE then types, minute, day, left1, left2, left3, left4 = 0, 0, 0, 0, 0, 0, 0 end
  return true, types, minute, day, left1, left2, left3, left4, told, bytes, new_windows
end

-- Whether what is pending is there as the flags at a position say.
local function has_pending(bytes, at)
  local flags = byte(bytes, at)
  return flags <= 15 and #bytes == at + (flags % 4 > 0 and 14 or 0) + (flags >= 4 and 14 or 0)
end

local function corrupt() return redis.error_reply('LIMITER corrupt the state of the key') end

local state, counted = {}, 0
local fields = redis.call('HGETALL', KEYS[1])
for f = 1, #fields, 2 do
  state[fields[f]] = fields[f + 1]
  if byte(fields[f]) == 97 then counted = counted + 1 end
end
local h, H, old_T, new_T = state.h, state.H, state.T, sub(ARGV[6], 19, 23)
if not h or not H or not old_T then return corrupt() end
if byte(h) ~= 1 then return redis.error_reply('LIMITER newer ' .. KEYS[1]) end
if #h ~= 64 or #H < 36 or not has_pending(H, 36) or #old_T ~= 5 then return corrupt() end

local rearmed = sub(old_T, 1, 4) ~= sub(new_T, 1, 4)
T = new_T

-- What is ahead of the thresholds that are used, and how many count as told: those that are no higher than one that was told,
-- or that are reached already.
local function retell(left, limit, told, at, highest)
  told = told - told % (8 * at) + told % at
  local count, percent = 0, byte(T)
  while percent > 0 and (percent <= highest or limit > 0 and left < kept(limit, told, at)) do
    count, told = count + 1, told + at
    percent = count < 4 and byte(T, count + 1) or 0
  end
  return left - kept(limit, told, at), told
end
local function rearm(left, limit, told, at)
  T = old_T
  left = left + kept(limit, told, at)
  T = new_T
  local count = (told % (8 * at) - told % at) / at
  return retell(left, limit, told, at, count > 0 and byte(old_T, count) or 0)
end

-- A scope as it is kept, its limits changed. Returns as `configure` does.
local function change(types, told, minute, day, left1, left2, left3, left4, bytes, at, wanted, windows)
  if rearmed and types > 0 then
    local limit1, limit2, limit3, limit4 = unpack('<i7i7i7i7', bytes, at)
    left1, told = rearm(left1, limit1, told, 1)
    left2, told = rearm(left2, limit2, told, 8)
    left3, told = rearm(left3, limit3, told, 64)
    left4, told = rearm(left4, limit4, told, 512)
  end
  local differs, new_types, new_minute, new_day, new1, new2, new3, new4, new_told, new_bytes, new_windows =
    configure(types, minute, day, left1, left2, left3, left4, told, bytes, at, wanted, windows)
  if differs then return true, new_types, new_told, new_minute, new_day, new1, new2, new3, new4, new_bytes, new_windows end
  if not rearmed or types == 0 then return false end
  return true, types, told, minute, day, left1, left2, left3, left4, sub(bytes, at)
end

local types, told, incarnation, minute, day, ends, left1, left2, left3, left4, credits_left =
  unpack('<BI2xxxxxI4i5i4i7i7i7i7i7i7', h, 2)
local kind, budget = types >= 16 and 16 or 0, unpack('<i7', H)
types = types - kind
local changed = new_ends ~= ends or new_budget ~= budget or new_T ~= old_T or ARGV[4] ~= record[3]
if rearmed then credits_left, told = rearm(credits_left, budget, told, 4096) end
if new_budget ~= budget then
  credits_left = credits_left + kept(budget, told, 4096) - (budget == NO_LIMIT and MAX or budget)
    + (new_budget == NO_LIMIT and MAX or new_budget)
  credits_left, told = retell(credits_left, new_budget, told, 4096, 0)
end

local differs, new_types, new_told, new_minute, new_day, new1, new2, new3, new4, limits, windows =
  change(types, told, minute, day, left1, left2, left3, left4, H, 8, sub(ARGV[6], 24), state.w)
if differs then
  changed, types, told, minute, day = true, new_types, new_told, new_minute, new_day
  left1, left2, left3, left4 = new1, new2, new3, new4
else
  limits = sub(H, 8)
end

-- The records of assets that change, by field; false for those that go.
local wanted, changes = {}, {}
for asset = 8, 7 + 2 * ARGV[7], 2 do
  wanted[ARGV[asset]] = ARGV[asset + 1]
  if not state[ARGV[asset]] then state[ARGV[asset]] = '' end
end
local function limits_field(field) return 'A' .. sub(field, 2) end
local function windows_field(field) return 'w' .. sub(field, 2) end
for field, a in pairs(state) do
  if byte(field) == 97 then
    local A = state[limits_field(field)]
    local atypes, atold, aminute, aday, aleft1, aleft2, aleft3, aleft4 = 0, 0, 0, 0, 0, 0, 0, 0
    if a ~= '' then
      if byte(a) ~= 1 then return redis.error_reply('LIMITER newer ' .. KEYS[1]) end
      if #a ~= 45 or not A or #A < 29 or not has_pending(A, 29) then return corrupt() end
      atypes, atold, aminute, aday, aleft1, aleft2, aleft3, aleft4 = unpack('<BI2i5i4dddd', a, 2)
    end
    local awindows = state[windows_field(field)]
    differs, atypes, atold, aminute, aday, aleft1, aleft2, aleft3, aleft4, A, awindows =
      change(atypes, atold, aminute, aday, aleft1, aleft2, aleft3, aleft4, A, 1, wanted[field] or WANTS_NONE, awindows)
    if differs then
      changed = true
      if atypes > 0 then
        if a == '' then counted = counted + 1 end
        changes[field] = { pack('<BBI2i5i4dddd', 1, atypes, atold, aminute, aday, aleft1, aleft2, aleft3, aleft4), A,
          awindows }
      elseif a ~= '' then
        counted = counted - 1
        changes[field] = false
      end
    end
  end
end
if counted > tonumber(ARGV[5]) then
  -- Those that are over can go; else they would wait for their next call.
  for field, a in pairs(state) do
    if byte(field) == 97 and a ~= '' and changes[field] ~= false and not wanted[field] then
      local atypes, _, aminute, aday, aleft1, aleft2, aleft3, aleft4 = unpack('<BI2i5i4dddd', a, 2)
      local A = state[limits_field(field)]
      local _, _, _, _, _, _, _, _, _, _, _, _, staged = stage(atypes, aminute, aday, aleft1, aleft2, aleft3, aleft4, A, 1)
      if staged == NONE then
        counted, changed = counted - 1, true
        changes[field] = false
      end
    end
  end
  if counted > tonumber(ARGV[5]) then return { 'assets', counted } end
end

if changed then
  redis.call('HSET', KEYS[1],
    'h', pack('<BBI2BI4I4i5i4i7i7i7i7i7i7', 1, types + kind, told, byte(new_T), new_version, incarnation, minute, day,
      new_ends, left1, left2, left3, left4, credits_left),
    'H', pack('<i7', new_budget) .. limits,
    'T', new_T)
  if types == 0 then
    redis.call('HDEL', KEYS[1], 'w')
  elseif windows then
    redis.call('HSET', KEYS[1], 'w', windows)
  end
  for field, asset in pairs(changes) do
    if asset then
      redis.call('HSET', KEYS[1], field, asset[1], limits_field(field), asset[2])
      if asset[3] then redis.call('HSET', KEYS[1], windows_field(field), asset[3]) end
    else
      redis.call('HDEL', KEYS[1], field, limits_field(field), windows_field(field))
    end
  end
  local next_version = math.min(record[2] + 1, MAX)
  redis.call('HSET', KEYS[2], 'name', ARGV[4], 'version', string.format('%.0f', next_version))
end
return { 'updated', time[1], time[2], redis.call('HGETALL', KEYS[1]), redis.call('HGETALL', KEYS[2]) }
