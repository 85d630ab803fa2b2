-- Decides calls: the twin of `fits` and `take` in limiter-core's evaluate.rs.
--
-- What is not simple is left to consider.lua, whose text is put in where it is needed, and stage.lua's in that: to make a
-- function, or a table, costs a server as much as thirty comparisons.
--
-- KEYS[g]        the state of an API key; several groups may name the same one
-- ARGV[2g - 1]   the field of the asset that the calls of group g are of, or '' for none
-- ARGV[2g]       a mode, the stamp of the limits that the caller knows, then each call in 28 bytes
-- Returns for each group one string: the time, a verdict for each call, the records as they were before; with the limits
-- beside it, in a table, if the caller knows others.
local KEYS, ARGV = KEYS, ARGV
local groups, MAX = #KEYS, 9007199254740991
local replies

for g = 1, groups do
  local at = 2 * g
  local key, field, calls = KEYS[g], ARGV[at - 1], ARGV[at]
  local records = redis.pcall('HMGET', key, 'h', field)
  local h, a = records[1], records[2]
  local reply

  if h and #h == 64 then
    local known, requests, input, output, credits, position = unpack('<xdI7I7I7I7', calls)
    local first, stamp, minute, day, ends, left1, left2, left3, left4, credits_left =
      unpack('<I5di5i4i7i7i7i7i7i7', h)
    local kind = first % 65536

    -- One call of a member key whose limits the caller knows, for which there is room everywhere, before a limit and before the
    -- next threshold: nearly every call. Windows may have ended, as long as no limits are pending and the clock did not step back.
    if stamp == known and #calls == 37 and requests > 0 and credits_left >= credits and credits_left > 0
      and (second + 1) * 1000 <= ends and (kind == 257 or kind > 256 and kind < 2560 and kind % 256 == 1)
    then
      local minute_tokens, day_tokens = input + output, input + output
      if kind > 257 then
        local types = (kind - 257) / 256
        if types % 3 == 1 then minute_tokens = output elseif types % 3 == 2 then minute_tokens = input end
        if types >= 6 then day_tokens = input elseif types >= 3 then day_tokens = output end
      end
      local minute_end, day_end = minute * 60 - second, day * 86400 - second
      -- The first threshold, since in a window that begins nothing is told yet. What is ahead of it is as `kept` in told.lua
      -- says; products of larger limits are not exact.
      local percent, one, limits, head, rolled
      if (minute_end <= 0 or day_end <= 0) and minute_end <= 120 and day_end <= 172800 then
        limits = redis.call('HMGET', key, 'H', 'A' .. string.sub(field, 2))
        local H = limits[1]
        if H and #H == 36 then
          local limit1, limit2, limit3, limit4, pends = unpack('<i7i7i7i7B', H, 8)
          percent, one = (first - first % 4294967296) / 4294967296, 1
          if percent == 0 then percent, one = 100, 0 end
          if minute_end <= 0 and pends == 0 and limit1 <= 9e13 and limit2 <= 9e13 then
            minute, minute_end, first = (second - second % 60) / 60 + 1, 60, first - first % 4194304 + kind
            left1, left2 = limit1 * percent - one, limit2 * percent - one
            left1 = limit1 > 0 and (left1 - left1 % 100) / 100 or limit1 < 0 and MAX or 0
            left2 = limit2 > 0 and (left2 - left2 % 100) / 100 or limit2 < 0 and MAX or 0
          end
          if day_end <= 0 and pends == 0 and limit3 <= 9e13 and limit4 <= 9e13 then
            day, day_end = (second - second % 86400) / 86400 + 1, 86400
            first = first - first % 268435456 + first % 4194304
            left3, left4 = limit3 * percent - one, limit4 * percent - one
            left3 = limit3 > 0 and (left3 - left3 % 100) / 100 or limit3 < 0 and MAX or 0
            left4 = limit4 > 0 and (left4 - left4 % 100) / 100 or limit4 < 0 and MAX or 0
          end
        end
      end
      if left1 >= requests and left2 >= minute_tokens and left2 > 0
        and left3 >= requests and left4 >= day_tokens and left4 > 0
        and minute_end <= 120 and minute_end > 0 and day_end <= 172800 and day_end > 0
      then
        if percent then
          head = pack('<I5di5i4i7i7i7i7i7i7', first, stamp, minute, day, ends, left1 - requests, left2 - minute_tokens,
            left3 - requests, left4 - day_tokens, credits_left - credits)
        else
          head = pack('<c29i7i7i7i7i7', h, left1 - requests, left2 - minute_tokens, left3 - requests,
            left4 - day_tokens, credits_left - credits)
        end
        if not a then
          redis.call('HSET', key, 'h', head)
          reply = time[1] .. 'A' .. time[2] .. h
          if groups == 1 then return reply end
        elseif #a == 45 then
          local asset_first, asset_minute, asset_day, left1, left2, left3, left4 = unpack('<I4i5i4dddd', a)
          local asset_kind = asset_first % 65536
          if asset_kind ~= kind then
            minute_tokens, day_tokens = input + output, input + output
            local types = (asset_kind - 257) / 256
            if types % 3 == 1 then minute_tokens = output elseif types % 3 == 2 then minute_tokens = input end
            if types >= 6 then day_tokens = input elseif types >= 3 then day_tokens = output end
          end
          -- Its windows may have ended long ago, if other assets of the key were called since.
          if asset_minute < minute and minute_end <= 60 or asset_day < day and day_end <= 86400 then
            limits = limits or redis.call('HMGET', key, 'H', 'A' .. string.sub(field, 2))
            local A = limits[2]
            if A and #A == 29 then
              local limit1, limit2, limit3, limit4, pends = unpack('<i7i7i7i7B', A)
              if not percent then
                percent, one = (first - first % 4294967296) / 4294967296, 1
                if percent == 0 then percent, one = 100, 0 end
              end
              if asset_minute < minute and minute_end <= 60 and pends == 0 and limit1 <= 9e13 and limit2 <= 9e13 then
                asset_minute, asset_first = minute, asset_first - asset_first % 4194304 + asset_kind
                left1, left2 = limit1 * percent - one, limit2 * percent - one
                left1 = limit1 > 0 and (left1 - left1 % 100) / 100 or limit1 < 0 and MAX or 0
                left2 = limit2 > 0 and (left2 - left2 % 100) / 100 or limit2 < 0 and MAX or 0
              end
              if asset_day < day and day_end <= 86400 and pends == 0 and limit3 <= 9e13 and limit4 <= 9e13 then
                asset_day, asset_first = day, asset_first % 4194304
                left3, left4 = limit3 * percent - one, limit4 * percent - one
                left3 = limit3 > 0 and (left3 - left3 % 100) / 100 or limit3 < 0 and MAX or 0
                left4 = limit4 > 0 and (left4 - left4 % 100) / 100 or limit4 < 0 and MAX or 0
              end
              rolled = true
            end
          end
          if left1 >= requests and left2 >= minute_tokens and left2 > 0
            and left3 >= requests and left4 >= day_tokens and left4 > 0
            and asset_minute == minute and asset_day == day
            and (asset_kind == kind or asset_kind > 256 and asset_kind < 2560 and asset_kind % 256 == 1)
          then
            redis.call('HSET', key, 'h', head, field, rolled and pack('<I4i5i4dddd', asset_first, asset_minute, asset_day,
              left1 - requests, left2 - minute_tokens, left3 - requests, left4 - day_tokens)
              or pack('<c13dddd', a, left1 - requests, left2 - minute_tokens, left3 - requests, left4 - day_tokens))
            reply = time[1] .. 'A' .. time[2] .. h .. a
            if groups == 1 then return reply end
          end
        end
      end
    end

    -- In a function of its own, made only here: for what it takes, the server would prepare room in every call.
    if not reply then
--include consider.lua
      reply = consider(key, field, calls, h, a, known, requests, input, output, credits, position,
        first, stamp, minute, day, ends, left1, left2, left3, left4, credits_left)
    end
  elseif records.err then
    reply = string.rep('W', (#calls - 9) / 28)
  elseif not h then
    reply = string.rep('U', (#calls - 9) / 28)
  else
    -- A format of another version, or else what cannot be.
    local newer = string.byte(h) ~= 1 or a and string.byte(a) ~= 1
    reply = string.rep(newer and 'F' or 'C', (#calls - 9) / 28)
  end
  if groups == 1 then return reply end
  replies = replies or {}
  replies[g] = reply
end
return replies
