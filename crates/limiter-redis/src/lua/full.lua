-- Whether as many are remembered as may be. What has passed does not count: it is looked for now and then, and a few of
-- it are given up, but on average two at least for each that comes.
local count, passed, full = redis.call('ZCARD', order), 0, false
if count >= ARGV[5] + 0 or count % 16 == 0 and count > 0 then
  passed = redis.call('ZCOUNT', order, '-inf', now)
  full = count - passed >= ARGV[5] + 0
  if passed > GIVEN_UP then passed = GIVEN_UP end
end
