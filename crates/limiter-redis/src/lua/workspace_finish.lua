-- Makes the index say of one key what its record says, and ends the change, if the change is still the client's.
--
-- The hash `taken` maps 'n' .. name and 'm' .. mask to the id that has them, and 'i' .. id and 's' .. id back to its
-- name and its mask, so that whatever the index knew of the key can be dropped without being told.
--
-- KEYS: names, taken, admins, change
-- ARGV: token, id, whether the key exists ('1'), its name, its mask (or ''), whether it is a permanent admin ('1')
-- Answers: 1, or 0 if another client has taken the change over

local token, id, exists, name, mask, permanent = ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5], ARGV[6]
if redis.call('HGET', KEYS[4], 'token') ~= token then return 0 end

local function let_go(field)
  if redis.call('HGET', KEYS[2], field) ~= id then return false end
  redis.call('HDEL', KEYS[2], field)
  return true
end

local known = redis.call('HMGET', KEYS[2], 'i' .. id, 's' .. id)
if known[1] and (exists ~= '1' or known[1] ~= name) and let_go('n' .. known[1]) then
  redis.call('ZREM', KEYS[1], known[1])
end
if known[2] and (exists ~= '1' or known[2] ~= mask) then let_go('m' .. known[2]) end

if exists == '1' then
  redis.call('HSET', KEYS[2], 'n' .. name, id, 'i' .. id, name)
  redis.call('ZADD', KEYS[1], 0, name)
  if mask ~= '' then
    redis.call('HSET', KEYS[2], 'm' .. mask, id, 's' .. id, mask)
  else
    redis.call('HDEL', KEYS[2], 's' .. id)
  end
else
  redis.call('HDEL', KEYS[2], 'i' .. id, 's' .. id)
end
if exists == '1' and permanent == '1' then
  redis.call('SADD', KEYS[3], id)
else
  redis.call('SREM', KEYS[3], id)
end
redis.call('DEL', KEYS[4])
return 1
