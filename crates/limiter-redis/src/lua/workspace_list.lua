-- Some of the names of a workspace, by their bytes, and the key that is being changed.
--
-- KEYS: names, taken, change
-- ARGV: where to start, as ZRANGEBYLEX wants it; the most names
-- Answers: the id of the key that is being changed (or ''), whether its change was left behind ('1'), names, ids

local names = redis.call('ZRANGEBYLEX', KEYS[1], ARGV[1], '+', 'LIMIT', 0, ARGV[2])
local ids = {}
if #names > 0 then
  local fields = {}
  for place, name in ipairs(names) do fields[place] = 'n' .. name end
  ids = redis.call('HMGET', KEYS[2], unpack(fields))
end
local change = redis.call('HMGET', KEYS[3], 'id', 'began', 'lease')
local changing, left_behind = '', '0'
if change[1] then
  changing = change[1]
  if not is_alive(tonumber(change[2]), tonumber(change[3]), now_ms()) then left_behind = '1' end
end
return { changing, left_behind, names, ids }
