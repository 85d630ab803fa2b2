-- read: what is stored of a key, at one instant. It writes nothing.
--
-- KEYS     hashes and sorted sets
-- ARGV     the fields to read of each hash; without any, everything of each key
-- Answers  seconds, microseconds, then for each key the values of the fields, or everything, or false if it has another type
local answer, arguments = { time[1], time[2] }, #ARGV - clock_arguments
local function is_other_type(found) return found.err and string.find(found.err, 'WRONGTYPE') end
for number, key in ipairs(KEYS) do
  local found = arguments > 0 and redis.pcall('HMGET', key, unpack(ARGV, 1, arguments)) or redis.pcall('HGETALL', key)
  if is_other_type(found) and arguments == 0 then found = redis.pcall('ZRANGE', key, 0, -1, 'WITHSCORES') end
  -- A right that is missing is named only where a script is stopped.
  if found.err and not is_other_type(found) then return arguments > 0 and found or redis.call('HGETALL', key) end
  answer[number + 2] = not found.err and found
end
return answer
