-- KEYS: pointer
-- Answers: what the pointer says, or nil
return redis.call('GET', KEYS[1])
