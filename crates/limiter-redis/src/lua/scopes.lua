-- A scope: its counts in the minute and in the day, what is in force and what is pending. The twin of limiter-core's
-- schedule.rs and meter.rs. The layout of the bytes is described in codec.rs.
--
-- There are no tables in here, since each costs a server as much as ten comparisons. In names, 1 and 2 are the requests
-- and tokens of the minute, 3 and 4 those of the day. A window is known by its end, in windows since 1970. Types are 0
-- for total, 1 for output, 2 for input.
local MAX, NO_LIMIT = 9007199254740991, -1
local floor, sub = math.floor, string.sub

local current_minute, current_day = (second - second % 60) / 60 + 1, (second - second % 86400) / 86400 + 1

-- The limits in force, and for each window what is pending: its type (nil for nothing), requests and tokens.
local function limits_of(bytes, at)
  local limit1, limit2, limit3, limit4, flags, position = unpack('<i7i7i7i7B', bytes, at)
  if flags == 0 then return limit1, limit2, limit3, limit4 end
  local minute_type, pending1, pending2, day_type, pending3, pending4
  if flags % 4 > 0 then
    minute_type = flags % 4 - 1
    pending1, pending2, position = unpack('<i7i7', bytes, position)
  end
  if flags >= 4 then
    day_type = floor(flags / 4) - 1
    pending3, pending4 = unpack('<i7i7', bytes, position)
  end
  return limit1, limit2, limit3, limit4, minute_type, pending1, pending2, day_type, pending3, pending4
end

local function limits_to_bytes(limit1, limit2, limit3, limit4, minute_type, pending1, pending2, day_type, pending3, pending4)
  local flags = (minute_type and minute_type + 1 or 0) + (day_type and 4 * (day_type + 1) or 0)
  return pack('<i7i7i7i7B', limit1, limit2, limit3, limit4, flags)
    .. (minute_type and pack('<i7i7', pending1, pending2) or '')
    .. (day_type and pack('<i7i7', pending3, pending4) or '')
end

-- Whether bytes can be limits that begin at a position.
local function are_limits(bytes, at)
  if not bytes or #bytes < at + 28 then return false end
  local flags = string.byte(bytes, at + 28)
  return flags <= 15 and #bytes == at + 28 + (flags % 4 > 0 and 14 or 0) + (flags >= 4 and 14 or 0)
end

-- The scope as it stands now: the windows that have passed begin again, with what was pending. Returns the windows,
-- what is left, the limits and the types; then the limits as bytes if they have changed, and whether none is left.
local function stage(types, minute, day, left1, left2, left3, left4, bytes, at)
  local limit1, limit2, limit3, limit4, minute_pends, pending1, pending2, day_pends, pending3, pending4 =
    limits_of(bytes, at)
  local minute_type = (types - 1) % 3
  local day_type, changed = (types - 1 - minute_type) / 3, false
  local ends_in = minute * 60 - second
  if ends_in <= 0 then
    minute = current_minute
    if minute_pends then
      limit1, limit2, minute_type, minute_pends, changed = pending1, pending2, minute_pends, nil, true
    end
    left1, left2 = limit1 == NO_LIMIT and MAX or limit1, limit2 == NO_LIMIT and MAX or limit2
  elseif ends_in > 120 then
    -- A clock that had been far ahead was mended: the counts are carried over.
    minute = current_minute
  end
  ends_in = day * 86400 - second
  if ends_in <= 0 then
    day = current_day
    if day_pends then
      limit3, limit4, day_type, day_pends, changed = pending3, pending4, day_pends, nil, true
    end
    left3, left4 = limit3 == NO_LIMIT and MAX or limit3, limit4 == NO_LIMIT and MAX or limit4
  elseif ends_in > 172800 then
    day = current_day
  end
  if changed then
    changed = limits_to_bytes(limit1, limit2, limit3, limit4, minute_pends, pending1, pending2, day_pends, pending3, pending4)
  end
  local over = limit1 == NO_LIMIT and limit2 == NO_LIMIT and limit3 == NO_LIMIT and limit4 == NO_LIMIT
    and not minute_pends and not day_pends
  return minute, day, left1, left2, left3, left4, limit1, limit2, limit3, limit4, minute_type, day_type, changed, over
end

-- The twins of the parts of a key: what a server holds of it, in bytes.
local UNCOUNTED_LIMITS = pack('<i7i7i7i7B', NO_LIMIT, NO_LIMIT, NO_LIMIT, NO_LIMIT, 0)

local function key_to_bytes(types, fired, version, incarnation, minute, day, ends, left1, left2, left3, left4, credits_left)
  return pack('<BBI3I4I4i5i4i7i7i7i7i7i7', 1, types, fired, version, incarnation, minute, day, ends,
    left1, left2, left3, left4, credits_left)
end

local function asset_to_bytes(types, fired, minute, day, left1, left2, left3, left4)
  return pack('<BBI2i5i4dddd', 1, types, fired, minute, day, left1, left2, left3, left4)
end

-- What is wrong with the records of a key and of an asset, or nil: F for a format of another version, C for anything else.
local function wrong_with(h, H, a, A)
  if string.byte(h) ~= 1 or a and string.byte(a) ~= 1 then return 'F' end
  local types = string.byte(h, 2)
  if #h ~= 64 or types > 25 or types % 16 > 9 or not are_limits(H, 8) then return 'C' end
  if a then
    types = string.byte(a, 2)
    if #a ~= 45 or types < 1 or types > 9 or not are_limits(A, 1) then return 'C' end
  end
end
