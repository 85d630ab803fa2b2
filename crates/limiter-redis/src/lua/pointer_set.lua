-- Points a digest to a key that is about to be created, unless it points elsewhere.
--
-- KEYS: pointer
-- ARGV: the new pointer; the pointer that may be replaced (or ''); the last server time in ms at which this may run
-- Answers: pointed | late | held, now, the pointer that is there

local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
if now > tonumber(ARGV[3]) then return { 'late' } end
local held = redis.call('GET', KEYS[1])
if held and held ~= ARGV[2] then return { 'held', string.format('%.0f', now), held } end
redis.call('SET', KEYS[1], ARGV[1])
return { 'pointed' }
