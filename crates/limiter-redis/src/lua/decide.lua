-- Decides calls: the twin of `fits` and `take` in limiter-core's evaluate.rs.
--
-- KEYS[g]        the state of an API key; several groups may name the same one
-- ARGV[2g - 1]   the field of the asset that the calls of group g are of, or '' for none
-- ARGV[2g]       a mode, the stamp of the limits that the caller knows, then each call in 28 bytes
-- Returns for each group one string: the time, a verdict for each call, the records as they were before; with the limits
-- beside it, in a table, if the caller knows others.
local groups = #KEYS
local replies, records

for g = 1, groups do
  local key, field, calls = KEYS[g], ARGV[2 * g - 1], ARGV[2 * g]
  records = redis.pcall('HMGET', key, 'h', field)
  local h, a = records[1], records[2]
  -- One call for which there is room everywhere, of a member key whose limits the caller knows: nearly every call.
  if h and #h == 64 and #calls == 37 then
    local known, requests, input, output, credits = unpack('<xdI7I7I7I7', calls)
    local kind, stamp, minute, day, ends, left1, left2, left3, left4, credits_left =
      unpack('<I5di5i4i7i7i7i7i7i7', h)
    kind = kind % 65536
    if stamp == known and requests > 0 and credits_left >= credits and credits_left > 0
      and (second + 1) * 1000 <= ends and (kind == 257 or kind > 256 and kind < 2560 and kind % 256 == 1)
    then
      local minute_tokens, day_tokens = input + output, input + output
      if kind > 257 then
        local types = (kind - 257) / 256
        if types % 3 == 1 then minute_tokens = output elseif types % 3 == 2 then minute_tokens = input end
        if types >= 6 then day_tokens = input elseif types >= 3 then day_tokens = output end
      end
      local minute_end, day_end = minute * 60 - second, day * 86400 - second
      if left1 >= requests and left2 >= minute_tokens and left2 > 0
        and left3 >= requests and left4 >= day_tokens and left4 > 0
        and minute_end <= 120 and minute_end > 0 and day_end <= 172800 and day_end > 0
      then
        h = pack('<c29i7i7i7i7i7', h, left1 - requests, left2 - minute_tokens, left3 - requests,
          left4 - day_tokens, credits_left - credits)
        if not a then
          redis.call('HSET', key, 'h', h)
          a = time[1] .. 'A' .. time[2] .. records[1]
          if groups == 1 then return a end
          replies = replies or {}
          replies[g] = a
        elseif #a == 45 then
          local asset_kind, asset_minute, asset_day, left1, left2, left3, left4 = unpack('<I4i5i4dddd', a)
          asset_kind = asset_kind % 65536
          if asset_kind ~= kind then
            minute_tokens, day_tokens = input + output, input + output
            local types = (asset_kind - 257) / 256
            if types % 3 == 1 then minute_tokens = output elseif types % 3 == 2 then minute_tokens = input end
            if types >= 6 then day_tokens = input elseif types >= 3 then day_tokens = output end
          end
          if left1 >= requests and left2 >= minute_tokens and left2 > 0
            and left3 >= requests and left4 >= day_tokens and left4 > 0
            and asset_minute == minute and asset_day == day
            and (asset_kind == kind or asset_kind > 256 and asset_kind < 2560 and asset_kind % 256 == 1)
          then
            redis.call('HSET', key, 'h', h, field,
              pack('<c13dddd', a, left1 - requests, left2 - minute_tokens, left3 - requests, left4 - day_tokens))
            a = time[1] .. 'A' .. time[2] .. records[1] .. a
            if groups == 1 then return a end
            replies = replies or {}
            replies[g] = a
          end
        end
      end
    end
  end
end
