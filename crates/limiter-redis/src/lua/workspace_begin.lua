-- Begins a change of the keys of a workspace, or takes over one that its client left behind.
--
-- KEYS: names, taken, admins, change
-- ARGV: token, lease in ms, the key's id, the digest and the claim of its pointer (or ''), and what is asked of the
-- index: first of its workspace ('1'), id taken ('1'), a free name (or ''), a free mask (or ''), the key ceases to be a
-- permanent admin ('1')
-- Answers: begun, now | busy | crashed, now, id, digest, claim | refused, why

local token, lease, id, digest, claim = ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5]
local first, id_taken, name, mask, admin_goes = ARGV[6], ARGV[7], ARGV[8], ARGV[9], ARGV[10]
local now = now_ms()
local now_text = string.format('%.0f', now)

local change = redis.call('HMGET', KEYS[4], 'began', 'lease', 'id', 'digest', 'claim')
if change[1] then
  if is_alive(tonumber(change[1]), tonumber(change[2]), now) then return { 'busy' } end
  -- What is inherited must be healed: should this answer be lost, the client must not end it as if nothing had begun.
  redis.call('HSET', KEYS[4], 'token', token, 'began', now_text, 'lease', lease, 'inherited', '1')
  return { 'crashed', now_text, change[3], change[4], change[5] }
end

if first == '1' and redis.call('ZCARD', KEYS[1]) > 0 then return { 'refused', 'bootstrapped' } end
if id_taken == '1' then return { 'refused', 'id' } end
if name ~= '' then
  local holder = redis.call('HGET', KEYS[2], 'n' .. name)
  if holder and holder ~= id then return { 'refused', 'name' } end
end
if mask ~= '' then
  local holder = redis.call('HGET', KEYS[2], 'm' .. mask)
  if holder and holder ~= id then return { 'refused', 'mask' } end
end
if admin_goes == '1' and redis.call('SISMEMBER', KEYS[3], id) == 1 and redis.call('SCARD', KEYS[3]) == 1 then
  return { 'refused', 'admin' }
end

redis.call('HSET', KEYS[4], 'token', token, 'began', now_text, 'lease', lease,
  'id', id, 'digest', digest, 'claim', claim)
return { 'begun', now_text }
