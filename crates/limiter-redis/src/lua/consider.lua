-- Decides a group that is not simple: there are several calls, a limit changes, something runs out, a clock was mended,
-- the caller does not know the limits. The twin of `consider` in limiter-core's evaluate.rs.
--
-- It goes on with what decide.lua has read and unpacked; windows that have ended may have begun again there.
local function consider(key, field, calls, h, a, limits, known, requests, input, output, credits, position,
  kind, stamp, minute, day, ends, left1, left2, left3, left4, credits_left)
  local NO_LIMIT = -1
  local sub, byte = string.sub, string.byte
  local count = (#calls - 9) / 28
  local wrong, H, A
  local budget, limit1, limit2, limit3, limit4, pends
  local asset_kind, asset_minute, asset_day, asset_left1, asset_left2, asset_left3, asset_left4 = 1, minute, day, MAX, MAX, MAX, MAX
  local asset_limit1, asset_limit2, asset_limit3, asset_limit4, asset_pends = NO_LIMIT, NO_LIMIT, NO_LIMIT, NO_LIMIT, 0
  if stamp ~= known and byte(calls) == 1 and sub(h, 10, 13) ~= sub(calls, 6, 9) then
    -- A handle knows which key of this name it is for.
    wrong = 'U'
  elseif kind % 256 ~= 1 or a and byte(a) ~= 1 then
    wrong = 'F'
  else
    limits = limits or redis.call('HMGET', key, 'H', 'A' .. sub(field, 2))
    H, A = limits[1], limits[2]
    if not H or #H < 36 or a and (#a ~= 45 or not A or #A < 29) then
      wrong = 'C'
    else
      budget, limit1, limit2, limit3, limit4, pends = unpack('<i7i7i7i7i7B', H)
      if a then
        asset_kind, asset_minute, asset_day, asset_left1, asset_left2, asset_left3, asset_left4 = unpack('<I4i5i4dddd', a)
        asset_limit1, asset_limit2, asset_limit3, asset_limit4, asset_pends = unpack('<i7i7i7i7B', A)
        if asset_pends > 15
          or #A ~= 29 + (asset_pends % 4 > 0 and 14 or 0) + (asset_pends >= 4 and 14 or 0) then wrong = 'C' end
      end
      if pends > 15 or #H ~= 36 + (pends % 4 > 0 and 14 or 0) + (pends >= 4 and 14 or 0) then wrong = 'C' end
    end
  end

  if wrong then return string.rep(wrong, count) end
  -- Types are 0 for what is not counted, which has room for everything.
  local types, asset_types = (kind - 1) / 256, (asset_kind % 65536 - 1) / 256
  local is_admin = types >= 16
  if is_admin then types = types - 16 end
  if types == 0 then left1, left2, left3, left4 = MAX, MAX, MAX, MAX end

  local new_H, new_A, mended_h, mended_a
  local minute_ends, day_ends = minute * 60 - second, day * 86400 - second
  local asset_minute_ends, asset_day_ends = minute_ends, day_ends
  if a then asset_minute_ends, asset_day_ends = asset_minute * 60 - second, asset_day * 86400 - second end
  if types > 0 and (minute_ends <= 0 or minute_ends > 120 or day_ends <= 0 or day_ends > 172800)
    or a and (asset_minute_ends <= 0 or asset_minute_ends > 120 or asset_day_ends <= 0 or asset_day_ends > 172800)
  then
--include stage.lua
    local was_minute, was_day, type1, type2 = minute, day
    if types > 0 then
      minute, day, left1, left2, left3, left4, limit1, limit2, limit3, limit4, type1, type2, new_H =
        stage(types, minute, day, left1, left2, left3, left4, H, 8)
      if new_H then types = 1 + type1 + 3 * type2 end
      if minute < was_minute or day < was_day then
        mended_h = sub(h, 1, 13) .. pack('<i5i4', minute < was_minute and minute or was_minute,
          day < was_day and day or was_day) .. sub(h, 23)
      end
    end
    if a then
      was_minute, was_day = asset_minute, asset_day
      asset_minute, asset_day, asset_left1, asset_left2, asset_left3, asset_left4,
        asset_limit1, asset_limit2, asset_limit3, asset_limit4, type1, type2, new_A =
        stage(asset_types, asset_minute, asset_day, asset_left1, asset_left2, asset_left3, asset_left4, A, 1)
      if new_A then asset_types = 1 + type1 + 3 * type2 end
      if asset_minute < was_minute or asset_day < was_day then
        mended_a = sub(a, 1, 4) .. pack('<i5i4', asset_minute < was_minute and asset_minute or was_minute,
          asset_day < was_day and asset_day or was_day) .. sub(a, 14)
      end
    end
  end

  -- The microseconds are looked at only if they matter.
  local expired = (second + 1) * 1000 > ends and second * 1000 + (time[2] - time[2] % 1000) / 1000 >= ends
  local verdicts, allowed = '', false
  for call = 1, count do
    if call > 1 then requests, input, output, credits, position = unpack('<I7I7I7I7', calls, position) end
    local tokens2, verdict = input + output
    local tokens4, asset_tokens2, asset_tokens4 = tokens2, tokens2, tokens2
    if requests > MAX or tokens2 > MAX or credits > MAX then
      verdict = 'I'
    elseif expired then
      verdict = 'E'
    elseif is_admin then
      verdict = 'M'
    else
      if types > 1 then
        local type1 = (types - 1) % 3
        if type1 == 1 then tokens2 = output elseif type1 == 2 then tokens2 = input end
        if types >= 7 then tokens4 = input elseif types >= 4 then tokens4 = output end
      end
      if asset_types > 1 then
        local type1 = (asset_types - 1) % 3
        if type1 == 1 then asset_tokens2 = output elseif type1 == 2 then asset_tokens2 = input end
        if asset_types >= 7 then asset_tokens4 = input elseif asset_types >= 4 then asset_tokens4 = output end
      end
      -- A new call needs one unit left also where it adds nothing; a top-up that adds nothing needs nothing.
      local least = requests > 0 and 1 or -2 * MAX
      local needed = requests > 0 and requests or least
      if credits_left < (credits > 0 and credits or least) and budget ~= NO_LIMIT then
        verdict = 'B'
      elseif left1 < needed and limit1 ~= NO_LIMIT
        or left2 < (tokens2 > 0 and tokens2 or least) and limit2 ~= NO_LIMIT
        or left3 < needed and limit3 ~= NO_LIMIT
        or left4 < (tokens4 > 0 and tokens4 or least) and limit4 ~= NO_LIMIT
        or asset_left1 < needed and asset_limit1 ~= NO_LIMIT
        or asset_left2 < (asset_tokens2 > 0 and asset_tokens2 or least) and asset_limit2 ~= NO_LIMIT
        or asset_left3 < needed and asset_limit3 ~= NO_LIMIT
        or asset_left4 < (asset_tokens4 > 0 and asset_tokens4 or least) and asset_limit4 ~= NO_LIMIT
      then
        verdict = 'R'
      else
        verdict, allowed = 'A', true
        credits_left = credits_left - credits
        left1, left2, left3, left4 = left1 - requests, left2 - tokens2, left3 - requests, left4 - tokens4
        asset_left1, asset_left2 = asset_left1 - requests, asset_left2 - asset_tokens2
        asset_left3, asset_left4 = asset_left3 - requests, asset_left4 - asset_tokens4
        -- A count without a limit that would pass the largest one stays there.
        if credits_left < 0 and budget == NO_LIMIT then credits_left = 0 end
        if left1 < 0 and limit1 == NO_LIMIT then left1 = 0 end
        if left2 < 0 and limit2 == NO_LIMIT then left2 = 0 end
        if left3 < 0 and limit3 == NO_LIMIT then left3 = 0 end
        if left4 < 0 and limit4 == NO_LIMIT then left4 = 0 end
        if asset_left1 < 0 and asset_limit1 == NO_LIMIT then asset_left1 = 0 end
        if asset_left2 < 0 and asset_limit2 == NO_LIMIT then asset_left2 = 0 end
        if asset_left3 < 0 and asset_limit3 == NO_LIMIT then asset_left3 = 0 end
        if asset_left4 < 0 and asset_limit4 == NO_LIMIT then asset_left4 = 0 end
      end
    end
    verdicts = verdicts .. verdict
  end

  if allowed then
    -- The first 13 and 4 bytes change only with limits. A scope that has none any more, in force or pending, is
    -- dropped.
    local head, asset_head, asset_over = h, a, false
    if new_H or new_A then
      local no_limits = pack('<i7i7i7i7B', NO_LIMIT, NO_LIMIT, NO_LIMIT, NO_LIMIT, 0)
      if new_H == no_limits then types = 0 end
      asset_over = new_A == no_limits
      local fired, version, incarnation = unpack('<I3I4I4', h, 3)
      -- The time is mixed in, so that a failover which loses this step does not lead to the same version by another. Zero
      -- is none; and whatever the time, it is another than before: by 1 at least, and by less than all there are.
      local unix_ms = math.abs(second * 1000 + (time[2] - time[2] % 1000) / 1000)
      version = (version + math.fmod(unix_ms, 4294967294)) % 4294967295 + 1
      head = pack('<BBI3I4I4', 1, types, fired, version, incarnation)
      if new_A then asset_head = pack('<BBI2', 1, asset_types, (unpack('<I2', a, 3))) end
    end
    if types == 0 then minute, day, left1, left2, left3, left4 = 0, 0, 0, 0, 0, 0 end
    head = pack('<c13i5i4i7i7i7i7i7i7', head, minute, day, ends, left1, left2, left3, left4, credits_left)
    if a and not asset_over then
      redis.call('HSET', key, 'h', head, field, pack('<c4i5i4dddd', asset_head, asset_minute, asset_day,
        asset_left1, asset_left2, asset_left3, asset_left4))
    else
      redis.call('HSET', key, 'h', head)
    end
    if new_H then redis.call('HSET', key, 'H', sub(H, 1, 7) .. new_H) end
    if asset_over then
      redis.call('HDEL', key, field, 'A' .. sub(field, 2))
    elseif new_A then
      redis.call('HSET', key, 'A' .. sub(field, 2), new_A)
    end
  else
    if mended_h then redis.call('HSET', key, 'h', mended_h) end
    if mended_a then redis.call('HSET', key, field, mended_a) end
  end

  local reply = time[1] .. verdicts .. time[2] .. h .. (a or '')
  if stamp ~= known then return { reply, H, A } end
  return reply
end
