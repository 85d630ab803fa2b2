-- Ends a change that changed nothing, if it is still the client's.
--
-- KEYS: change
-- ARGV: token
-- Answers: 1, or 0 if another client has taken the change over

if redis.call('HGET', KEYS[1], 'token') ~= ARGV[1] then return 0 end
redis.call('DEL', KEYS[1])
return 1
