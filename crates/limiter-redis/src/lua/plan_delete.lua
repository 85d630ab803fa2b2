-- Deletes a plan that no key has. Keys that do not have it any more are dropped from those that do, but for those that may be
-- about to get it.
--
-- KEYS: plans, the keys that have the plan
-- ARGV: the name of the plan, for how many ms a key may be about to get it, the ids of keys that do not have it
-- Answers: none | done | held, and the ids of some that have it
local now = now_ms()
for number = 3, #ARGV do
  local since = redis.call('ZSCORE', KEYS[2], ARGV[number])
  if since and (since + 0 == 0 or since + ARGV[2] < now) then redis.call('ZREM', KEYS[2], ARGV[number]) end
end
if not redis.call('HGET', KEYS[1], ARGV[1]) then return { 'none' } end
local held = redis.call('ZRANGE', KEYS[2], 0, 24)
if #held > 0 then
  table.insert(held, 1, 'held')
  return held
end
redis.call('HDEL', KEYS[1], ARGV[1])
return { 'done' }
