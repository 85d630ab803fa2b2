-- All that is remembered of the calls of an API key, at one instant.
--
-- KEYS[1]              its state
-- KEYS[2] to KEYS[5]   its reservations, their ids by time, and the ids of its checks and of its records by time
-- Returns whether the key exists, and all of them.
return { redis.call('EXISTS', KEYS[1]), redis.call('HGETALL', KEYS[2]),
  redis.call('ZRANGE', KEYS[3], 0, -1, 'WITHSCORES'), redis.call('ZRANGE', KEYS[4], 0, -1, 'WITHSCORES'),
  redis.call('ZRANGE', KEYS[5], 0, -1, 'WITHSCORES') }
