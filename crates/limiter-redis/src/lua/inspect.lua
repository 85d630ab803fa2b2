-- All that is kept of an API key, at one instant.
--
-- KEYS[1], KEYS[2]   its state and its record
-- Returns the time and both hashes; the record is empty for a key that is not known.
return { 'found', time[1], time[2], redis.call('HGETALL', KEYS[1]), redis.call('HGETALL', KEYS[2]) }
