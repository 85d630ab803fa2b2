-- Decides a call once, however often it is repeated under its id: the twin of `check_once` in limiter-core's
-- reservation.rs.
--
-- KEYS[1], KEYS[2]   the state of an API key, and the ids of its checks by the time until which they are remembered
-- ARGV[1]            the id
-- ARGV[2], ARGV[3]   as decide.lua takes them: the field of the asset, and a call
-- ARGV[4], ARGV[5]   how long the id is to be remembered, in ms, and how many may be
-- Returns what decide.lua does for a new call, else { letter, time, until or false, what decide.lua would return }: P for
-- one that was allowed before, N where no more can be remembered.
--include once.lua
local order, calls, life = KEYS[2], ARGV[3], ARGV[4] + 0
local known = redis.call('ZSCORE', order, ARGV[1])
if known and known + 0 > now then return { 'P', time[1], time[2], known, as_it_stands(KEYS[1], ARGV[2]) } end

--include full.lua
if full then calls = LOOKS .. sub(calls, 10) end
local reply = decide({ KEYS[1] }, { ARGV[2], calls })
if not is_allowed(reply) then return reply end
if full then return { 'N', time[1], time[2], false, reply } end

if passed > 0 then redis.call('ZREMRANGEBYRANK', order, 0, passed - 1) end
redis.call('ZADD', order, math.min(now + life, MAX), ARGV[1])
--expire
return reply
