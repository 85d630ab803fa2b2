-- Some of the names of a workspace, by their bytes, and the keys that are being changed.
--
-- KEYS: names, taken, change
-- ARGV: where to start, as ZRANGEBYLEX wants it; the most names
-- Answers: the journal of the change (or ''), whether the change was left behind ('1'), names, ids
local names = redis.call('ZRANGEBYLEX', KEYS[1], ARGV[1], '+', 'LIMIT', 0, ARGV[2])
local ids = {}
if #names > 0 then
  local fields = {}
  for place, name in ipairs(names) do fields[place] = 'n' .. name end
  ids = redis.call('HMGET', KEYS[2], unpack(fields))
end
local change = redis.call('HMGET', KEYS[3], 'journal', 'began', 'lease')
local left_behind = change[2] and not is_alive(tonumber(change[2]), tonumber(change[3]), now_ms())
return { change[1] or '', left_behind and '1' or '0', names, ids }
