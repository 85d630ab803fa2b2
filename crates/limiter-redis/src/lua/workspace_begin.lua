-- Begins a change of keys of a workspace, or takes over one that its client left behind.
--
-- KEYS: names, taken, admins, change
-- ARGV: token, lease in ms, the journal, whether the workspace must have no key ('1'), the id of a key that ceases to be
-- a permanent admin (or ''), and for each key that needs some of the index: its id, a free name (or ''), a free mask (or '')
-- Answers: begun, now, 'free', 'name' or 'mask' for each such key | busy | crashed, now, journal |
-- refused, now, 'bootstrapped' or 'admin', or as with begun if none is free
local token, lease, journal, first, ceases = ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5]
local now = now_ms()
local now_text = string.format('%.0f', now)
local change = redis.call('HMGET', KEYS[4], 'began', 'lease', 'journal', 'wanted')
if change[1] then
  if is_alive(tonumber(change[1]), tonumber(change[2]), now) then
    if not change[4] then redis.call('HSET', KEYS[4], 'wanted', '1') end
    return { 'busy' }
  end
  -- An inherited change must be healed: if this answer is lost, the client must not end it as if nothing had begun.
  redis.call('HSET', KEYS[4], 'token', token, 'began', now_text, 'lease', lease, 'inherited', '1')
  return { 'crashed', now_text, change[3] or '' }
end
if first == '1' and redis.call('ZCARD', KEYS[1]) > 0 then return { 'refused', now_text, 'bootstrapped' } end
if ceases ~= '' and redis.call('SISMEMBER', KEYS[3], ceases) == 1 and redis.call('SCARD', KEYS[3]) == 1 then
  return { 'refused', now_text, 'admin' }
end
local answer, begins = { 'begun', now_text }, #ARGV == 5
for at = 6, #ARGV, 3 do
  local id, name, mask = ARGV[at], ARGV[at + 1], ARGV[at + 2]
  local word = 'free'
  if mask ~= '' and is_taken(KEYS[2], 'm' .. mask, id) then word = 'mask' end
  if name ~= '' and is_taken(KEYS[2], 'n' .. name, id) then word = 'name' end
  if word == 'free' then begins = true end
  answer[#answer + 1] = word
end
if begins then
  redis.call('HSET', KEYS[4], 'token', token, 'began', now_text, 'lease', lease, 'journal', journal)
else
  answer[1] = 'refused'
end
return answer
