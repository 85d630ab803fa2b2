-- A scope as it stands now: windows that have passed begin again, with what was pending; where a clock that had been
-- far ahead was mended, counts are carried over. The twin of `ScopeState::staged` in limiter-core's schedule.rs.
--
-- Here and elsewhere, 1 and 2 are requests and tokens of the minute, 3 and 4 those of the day. A window is known by its
-- end, counted in windows since 1970. Types are 0 for total, 1 for output, 2 for input. There are no tables and few
-- functions, since making one costs a server as much as thirty comparisons.
local MAX, NO_LIMIT = 9007199254740991, -1

-- What is ahead of a limit in a window that begins.
local function whole(limit) return limit == NO_LIMIT and MAX or limit - kept(limit, 0, 1) end

-- Takes the limits as bytes, which start at a position. Returns windows, what is left, limits, types, and the limits
-- as bytes if they have changed.
local function stage(types, minute, day, left1, left2, left3, left4, bytes, at)
  local limit1, limit2, limit3, limit4, flags, position = unpack('<i7i7i7i7B', bytes, at)
  local minute_type, minute_pends, changed = (types - 1) % 3, flags % 4, false
  local day_type, day_pends = (types - 1 - minute_type) / 3, (flags - minute_pends) / 4
  local pending1, pending2, pending3, pending4
  if minute_pends > 0 then pending1, pending2, position = unpack('<i7i7', bytes, position) end
  if day_pends > 0 then pending3, pending4 = unpack('<i7i7', bytes, position) end
  local ends_in = minute * 60 - second
  if ends_in <= 0 or ends_in > 120 then minute = (second - second % 60) / 60 + 1 end
  if ends_in <= 0 then
    if minute_pends > 0 then
      limit1, limit2, minute_type, minute_pends, changed = pending1, pending2, minute_pends - 1, 0, true
    end
    left1, left2 = whole(limit1), whole(limit2)
  end
  ends_in = day * 86400 - second
  if ends_in <= 0 or ends_in > 172800 then day = (second - second % 86400) / 86400 + 1 end
  if ends_in <= 0 then
    if day_pends > 0 then
      limit3, limit4, day_type, day_pends, changed = pending3, pending4, day_pends - 1, 0, true
    end
    left3, left4 = whole(limit3), whole(limit4)
  end
  if changed then
    changed = pack('<i7i7i7i7B', limit1, limit2, limit3, limit4, minute_pends + 4 * day_pends)
    if minute_pends > 0 then changed = changed .. pack('<i7i7', pending1, pending2) end
    if day_pends > 0 then changed = changed .. pack('<i7i7', pending3, pending4) end
  end
  return minute, day, left1, left2, left3, left4, limit1, limit2, limit3, limit4, minute_type, day_type, changed
end

-- Which of its windows a scope has, beside their ends: which counting of it this is, and how often its minute and its day
-- were mended, so that after a mending no earlier window is found again. The first counting is the first of a new key.
local function mended(windows, minute, day)
  local counting, minutes, days = 1, 0, 0
  if windows and #windows == 6 then counting, minutes, days = unpack('<I4BB', windows) end
  if minute then minutes = (minutes + 1) % 256 end
  if day then days = (days + 1) % 256 end
  return pack('<I4BB', counting, minutes, days)
end
