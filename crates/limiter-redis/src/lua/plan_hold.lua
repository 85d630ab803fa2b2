-- Notes that keys are about to get a plan, if there is such a plan.
--
-- KEYS: plans, the keys that have the plan
-- ARGV: the name of the plan, the ids of the keys
-- Answers: the plan and the time; nothing if there is none
local plan = redis.call('HGET', KEYS[1], ARGV[1])
if not plan then return {} end
local now = string.format('%.0f', now_ms())
for number = 2, #ARGV do redis.call('ZADD', KEYS[2], now, ARGV[number]) end
return { plan, now }
