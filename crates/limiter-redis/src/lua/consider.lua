-- Decides a group that is not simple: there are several calls, a limit changes, something runs out, a clock was mended,
-- the caller does not know the limits. The twin of `consider` in limiter-core's evaluate.rs.
--
-- It goes on with what decide.lua has read and unpacked; windows that have ended may have begun again there.
local function consider(key, field, calls, h, a, known, requests, input, output, credits, position,
  first, stamp, minute, day, ends, left1, left2, left3, left4, credits_left)
  local NO_LIMIT = -1
  local sub, byte = string.sub, string.byte
  local count = (#calls - 9) / 28
  -- A handle knows which key of this name it is for.
  local wrong = stamp ~= known and byte(calls) == 1 and sub(h, 10, 13) ~= sub(calls, 6, 9) and 'U'
--include met.lua
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
      -- What is kept free for thresholds is there for a call that needs it.
      if credits_left < (credits > 0 and credits or least) and budget ~= NO_LIMIT
        and credits_left + kept(budget, told, 4096) < (credits > 0 and credits or least)
      then
        verdict = 'B'
      elseif left1 < needed and limit1 ~= NO_LIMIT and left1 + kept(limit1, told, 1) < needed
        or left2 < (tokens2 > 0 and tokens2 or least) and limit2 ~= NO_LIMIT
          and left2 + kept(limit2, told, 8) < (tokens2 > 0 and tokens2 or least)
        or left3 < needed and limit3 ~= NO_LIMIT and left3 + kept(limit3, told, 64) < needed
        or left4 < (tokens4 > 0 and tokens4 or least) and limit4 ~= NO_LIMIT
          and left4 + kept(limit4, told, 512) < (tokens4 > 0 and tokens4 or least)
        or asset_left1 < needed and asset_limit1 ~= NO_LIMIT
          and asset_left1 + kept(asset_limit1, asset_told, 1) < needed
        or asset_left2 < (asset_tokens2 > 0 and asset_tokens2 or least) and asset_limit2 ~= NO_LIMIT
          and asset_left2 + kept(asset_limit2, asset_told, 8) < (asset_tokens2 > 0 and asset_tokens2 or least)
        or asset_left3 < needed and asset_limit3 ~= NO_LIMIT
          and asset_left3 + kept(asset_limit3, asset_told, 64) < needed
        or asset_left4 < (asset_tokens4 > 0 and asset_tokens4 or least) and asset_limit4 ~= NO_LIMIT
          and asset_left4 + kept(asset_limit4, asset_told, 512) < (asset_tokens4 > 0 and asset_tokens4 or least)
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

  -- Whoever only looks changes nothing by what is allowed.
  if allowed and byte(calls) ~= 2 then
--include keep.lua
  elseif not allowed then
    if mended_h then redis.call('HSET', key, 'h', mended_h, 'w', mended_w) end
    if mended_a then redis.call('HSET', key, field, mended_a, 'w' .. sub(field, 2), mended_asset_w) end
  end

  local reply = time[1] .. verdicts .. time[2] .. h .. (a or '')
  if stamp ~= known then return { reply, T .. H, A } end
  return reply
end
