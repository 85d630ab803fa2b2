-- Puts a plan in place of the one that its caller has read.
--
-- KEYS: plans
-- ARGV: the name of the plan, what must be there ('' for none), what takes its place, how many plans there may be
-- Answers: done | other | full
local held = redis.call('HGET', KEYS[1], ARGV[1]) or ''
if held ~= ARGV[2] then return 'other' end
if held == '' and redis.call('HLEN', KEYS[1]) >= tonumber(ARGV[4]) then return 'full' end
redis.call('HSET', KEYS[1], ARGV[1], ARGV[3])
return 'done'
