-- Decides the groups that are left: there are several calls, a window ends, a limit changes, something runs out, a clock
-- was mended. The twin of `consider` in limiter-core's evaluate.rs.
local sub, byte = string.sub, string.byte
local now = second * 1000 + (time[2] - time[2] % 1000) / 1000

-- Whether what is pending is there as the flags at a position say.
local function has_pending(bytes, at)
  local flags = byte(bytes, at)
  return flags <= 15 and #bytes == at + (flags % 4 > 0 and 14 or 0) + (flags >= 4 and 14 or 0)
end

replies = replies or {}
for g = 1, groups do
  local key, field, calls = KEYS[g], ARGV[2 * g - 1], ARGV[2 * g]
  -- Another group of the same key may have been charged since it was read.
  if groups > 1 and not replies[g] then records = redis.pcall('HMGET', key, 'h', field) end
  local h, a, count = records[1], records[2], (#calls - 9) / 28
  local H, A, wrong
  if replies[g] then
    wrong = false
  elseif records.err then
    wrong, h = 'W', ''
  elseif not h or byte(calls) == 1 and #h == 64 and sub(h, 10, 13) ~= sub(calls, 6, 9) then
    -- Not known; a handle knows which key of this name it is for.
    wrong, h, a = 'U', '', false
  else
    local limits = redis.call('HMGET', key, 'H', 'A' .. sub(field, 2))
    H, A = limits[1], limits[2]
    -- F is a format of another version, C anything else that cannot be.
    if byte(h) ~= 1 or a and byte(a) ~= 1 then
      wrong = 'F'
    elseif #h ~= 64 or not H or #H < 36 or not has_pending(H, 36)
      or a and (#a ~= 45 or not A or #A < 29 or not has_pending(A, 29))
    then
      wrong = 'C'
    end
  end

  if wrong then
    replies[g] = string.rep(wrong, count) .. h .. (a or '')
  elseif wrong == nil then
    local types, fired, version, incarnation, minute, day, ends, left1, left2, left3, left4, credits_left =
      unpack('<BI3I4I4i5i4i7i7i7i7i7i7', h, 2)
    local budget, limit1, limit2, limit3, limit4 = unpack('<i7i7i7i7i7', H)
    local asset_types, asset_fired, asset_minute, asset_day, asset_left1, asset_left2, asset_left3, asset_left4
    local asset_limit1, asset_limit2, asset_limit3, asset_limit4 = NO_LIMIT, NO_LIMIT, NO_LIMIT, NO_LIMIT
    local minute_type, day_type, new_H, asset_minute_type, asset_day_type, new_A
    local mended_h, mended_a
    if types % 16 > 0 then
      minute_type = (types % 16 - 1) % 3
      day_type = (types % 16 - 1 - minute_type) / 3
      local minute_ends, day_ends = minute * 60 - second, day * 86400 - second
      if minute_ends <= 0 or minute_ends > 120 or day_ends <= 0 or day_ends > 172800 then
        local was_minute, was_day = minute, day
        minute, day, left1, left2, left3, left4, limit1, limit2, limit3, limit4, minute_type, day_type, new_H =
          stage(types % 16, minute, day, left1, left2, left3, left4, H, 8)
        if minute < was_minute or day < was_day then
          mended_h = sub(h, 1, 13) .. pack('<i5i4', minute < was_minute and minute or was_minute,
            day < was_day and day or was_day) .. sub(h, 23)
        end
      end
    else
      -- What is not counted has room for everything.
      left1, left2, left3, left4 = MAX, MAX, MAX, MAX
    end
    if a then
      asset_types, asset_fired, asset_minute, asset_day, asset_left1, asset_left2, asset_left3, asset_left4 =
        unpack('<BI2i5i4dddd', a, 2)
      asset_limit1, asset_limit2, asset_limit3, asset_limit4 = unpack('<i7i7i7i7', A)
      asset_minute_type = (asset_types - 1) % 3
      asset_day_type = (asset_types - 1 - asset_minute_type) / 3
      local minute_ends, day_ends = asset_minute * 60 - second, asset_day * 86400 - second
      if minute_ends <= 0 or minute_ends > 120 or day_ends <= 0 or day_ends > 172800 then
        local was_minute, was_day = asset_minute, asset_day
        asset_minute, asset_day, asset_left1, asset_left2, asset_left3, asset_left4,
          asset_limit1, asset_limit2, asset_limit3, asset_limit4, asset_minute_type, asset_day_type, new_A =
          stage(asset_types, asset_minute, asset_day, asset_left1, asset_left2, asset_left3, asset_left4, A, 1)
        if asset_minute < was_minute or asset_day < was_day then
          mended_a = sub(a, 1, 4) .. pack('<i5i4', asset_minute < was_minute and asset_minute or was_minute,
            asset_day < was_day and asset_day or was_day) .. sub(a, 14)
        end
      end
    else
      asset_left1, asset_left2, asset_left3, asset_left4 = MAX, MAX, MAX, MAX
    end

    local typed = minute_type and minute_type + day_type > 0
    local asset_typed = a and asset_minute_type + asset_day_type > 0
    local verdicts, allowed, position = '', false, 10
    for _ = 1, count do
      local requests, input, output, credits
      requests, input, output, credits, position = unpack('<I7I7I7I7', calls, position)
      local tokens2, verdict = input + output
      local tokens4, asset_tokens2, asset_tokens4 = tokens2, tokens2, tokens2
      if requests > MAX or tokens2 > MAX or credits > MAX then
        verdict = 'I'
      elseif now >= ends then
        verdict = 'E'
      elseif types >= 16 then
        verdict = 'M'
      else
        if typed then
          if minute_type == 1 then tokens2 = output elseif minute_type == 2 then tokens2 = input end
          if day_type == 1 then tokens4 = output elseif day_type == 2 then tokens4 = input end
        end
        if asset_typed then
          if asset_minute_type == 1 then asset_tokens2 = output elseif asset_minute_type == 2 then asset_tokens2 = input end
          if asset_day_type == 1 then asset_tokens4 = output elseif asset_day_type == 2 then asset_tokens4 = input end
        end
        -- A new call needs one unit left also where it adds nothing; a top-up that adds nothing needs nothing.
        local least = requests > 0 and 1 or -2 * MAX
        if credits_left < (credits > 0 and credits or least) and budget ~= NO_LIMIT then
          verdict = 'B'
        elseif left1 < (requests > 0 and requests or least) and limit1 ~= NO_LIMIT
          or left2 < (tokens2 > 0 and tokens2 or least) and limit2 ~= NO_LIMIT
          or left3 < (requests > 0 and requests or least) and limit3 ~= NO_LIMIT
          or left4 < (tokens4 > 0 and tokens4 or least) and limit4 ~= NO_LIMIT
          or asset_left1 < (requests > 0 and requests or least) and asset_limit1 ~= NO_LIMIT
          or asset_left2 < (asset_tokens2 > 0 and asset_tokens2 or least) and asset_limit2 ~= NO_LIMIT
          or asset_left3 < (requests > 0 and requests or least) and asset_limit3 ~= NO_LIMIT
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
      -- A scope that has no limits any more, in force or pending, is dropped.
      local over, asset_over
      if new_H or new_A then
        local no_limits = pack('<i7i7i7i7B', NO_LIMIT, NO_LIMIT, NO_LIMIT, NO_LIMIT, 0)
        over, asset_over = new_H == no_limits, new_A == no_limits
        version = (version + 1) % 4294967296
      end
      if over or types == 0 then
        types, minute, day, left1, left2, left3, left4 = 0, 0, 0, 0, 0, 0, 0
      else
        types = 1 + minute_type + 3 * day_type
      end
      h = pack('<BBI3I4I4i5i4i7i7i7i7i7i7', 1, types, fired, version, incarnation, minute, day, ends,
        left1, left2, left3, left4, credits_left)
      if a and not asset_over then
        redis.call('HSET', key, 'h', h, field, pack('<BBI2i5i4dddd', 1, 1 + asset_minute_type + 3 * asset_day_type,
          asset_fired, asset_minute, asset_day, asset_left1, asset_left2, asset_left3, asset_left4))
      else
        redis.call('HSET', key, 'h', h)
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

    replies[g] = time[1] .. verdicts .. time[2] .. records[1] .. (a or '')
    if sub(records[1], 6, 13) ~= sub(calls, 2, 9) then replies[g] = { replies[g], H, A } end
  end
end
if groups == 1 then return replies[1] end
return replies
