-- Decides one call, as decide.lua does.
local function decide(KEYS, ARGV)
--include decide.lua
end

local function is_allowed(reply)
  local text = type(reply) == 'table' and reply[1] or reply
  return byte(text, #time[1] + 1) == 65
end

-- Before a call: one whose limits nobody knows, and one that is only looked at.
local ASKS, LOOKS = '\0\0\0\0\0\0\0\0\0', '\2\0\0\0\0\0\0\0\0'

-- What decide.lua would return of a call that was allowed, without deciding anything.
local function as_it_stands(key, field)
  local met = redis.call('HMGET', key, 'h', field, 'H', 'A' .. sub(field, 2), 'T')
  if not met[1] then return 'U' end
  if not met[3] or not met[5] then return 'C' end
  return { time[1] .. 'A' .. time[2] .. met[1] .. (met[2] or ''), met[5] .. met[3], met[4] }
end
