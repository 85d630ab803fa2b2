-- Ends a change that changed nothing, if it is still the client's, and if the client began it itself: one that was taken
-- over may have changed something.
--
-- KEYS: change
-- ARGV: token
-- Answers: 1, or 0 if the change stays
local change = redis.call('HMGET', KEYS[1], 'token', 'inherited')
if change[1] ~= ARGV[1] or change[2] then return 0 end
redis.call('DEL', KEYS[1])
return 1
