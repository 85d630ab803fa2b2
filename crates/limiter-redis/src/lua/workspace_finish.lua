-- Makes the index agree with the records of some keys, and ends the change, if it is still the client's.
--
-- The hash `taken` maps 'n' .. name and 'm' .. mask to the id that has them, and 'i' .. id and 's' .. id back to its
-- name and its mask, so that all index entries of the key can be dropped by its id.
--
-- A name or mask that another key has stays with that key: only a damaged record claims it. The key of that record keeps
-- its own. All keys let go before any takes, so that keys which exchanged their names get them.
--
-- KEYS: names, taken, admins, change
-- ARGV: token, and for each key: id, whether it exists ('1'), name, mask (or ''), whether it is a permanent admin ('1')
-- Answers: lost, if another client has taken the change over | done | wanted, if others waited for its end
local change = redis.call('HMGET', KEYS[4], 'token', 'wanted')
if change[1] ~= ARGV[1] then return 'lost' end
local function let_go(field, id)
  if redis.call('HGET', KEYS[2], field) ~= id then return false end
  redis.call('HDEL', KEYS[2], field)
  return true
end
-- Gives a key a name or mask, or else the one that it had before (or false). Answers which, if any.
local function take(kind, back, id, value, before)
  if is_taken(KEYS[2], kind .. value, id) then return before and take(kind, back, id, before) end
  redis.call('HSET', KEYS[2], kind .. value, id, back .. id, value)
  return value
end
local before = {}
for at = 2, #ARGV, 5 do
  local id, exists, name, mask = ARGV[at], ARGV[at + 1] == '1', ARGV[at + 2], ARGV[at + 3]
  local known = redis.call('HMGET', KEYS[2], 'i' .. id, 's' .. id)
  before[at] = known
  if known[1] and not (exists and known[1] == name) and let_go('n' .. known[1], id) then
    redis.call('ZREM', KEYS[1], known[1])
  end
  if known[2] and not (exists and known[2] == mask) then let_go('m' .. known[2], id) end
end
for at = 2, #ARGV, 5 do
  local id, exists, name, mask, permanent = ARGV[at], ARGV[at + 1] == '1', ARGV[at + 2], ARGV[at + 3], ARGV[at + 4]
  local known_name, known_mask = before[at][1], before[at][2]
  if exists then
    local given = take('n', 'i', id, name, known_name)
    if given then redis.call('ZADD', KEYS[1], 0, given) end
  else
    redis.call('HDEL', KEYS[2], 'i' .. id)
  end
  if exists and mask ~= '' then
    take('m', 's', id, mask, known_mask)
  elseif known_mask then
    redis.call('HDEL', KEYS[2], 's' .. id)
  end
  if exists and permanent == '1' then redis.call('SADD', KEYS[3], id) else redis.call('SREM', KEYS[3], id) end
end
redis.call('DEL', KEYS[4])
return change[2] and 'wanted' or 'done'
