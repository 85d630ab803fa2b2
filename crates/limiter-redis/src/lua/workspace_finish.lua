-- Makes the index agree with the records of some keys, and ends the change, if it is still the client's.
--
-- The hash `taken` maps 'n' .. name and 'm' .. mask to the id that has them, and 'i' .. id and 's' .. id back to its
-- name and its mask, so that all index entries of the key can be dropped by its id.
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
for at = 2, #ARGV, 5 do
  local id, exists, name, mask, permanent = ARGV[at], ARGV[at + 1] == '1', ARGV[at + 2], ARGV[at + 3], ARGV[at + 4]
  local known = redis.call('HMGET', KEYS[2], 'i' .. id, 's' .. id)
  if known[1] and not (exists and known[1] == name) and let_go('n' .. known[1], id) then
    redis.call('ZREM', KEYS[1], known[1])
  end
  if known[2] and not (exists and known[2] == mask) then
    let_go('m' .. known[2], id)
    redis.call('HDEL', KEYS[2], 's' .. id)
  end
  if exists then
    redis.call('HSET', KEYS[2], 'n' .. name, id, 'i' .. id, name)
    redis.call('ZADD', KEYS[1], 0, name)
    if mask ~= '' then redis.call('HSET', KEYS[2], 'm' .. mask, id, 's' .. id, mask) end
  else
    redis.call('HDEL', KEYS[2], 'i' .. id)
  end
  if exists and permanent == '1' then redis.call('SADD', KEYS[3], id) else redis.call('SREM', KEYS[3], id) end
end
redis.call('DEL', KEYS[4])
return change[2] and 'wanted' or 'done'
