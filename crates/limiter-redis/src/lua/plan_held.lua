-- Notes that keys have got a plan, or will not get it, unless they are about to get it again.
--
-- KEYS: the keys that have the plan
-- ARGV: when it was noted that they are about to get it, their ids
-- Answers: 1
for number = 2, #ARGV do
  if redis.call('ZSCORE', KEYS[1], ARGV[number]) == ARGV[1] then redis.call('ZADD', KEYS[1], 0, ARGV[number]) end
end
return 1
