-- Raises the estimate of a running call: the twin of `extend` in limiter-core's reservation.rs.
--
-- KEYS[1], KEYS[2]   the state of an API key, and its reservations
-- ARGV[1], ARGV[2]   the id, and the new totals: input, output and credits in 7 bytes each, -1 for one that stays
-- Returns { letter, time, record or false, what decide.lua returns for what is missing }. The letter is T if that was
-- decided; U for a key and X for a reservation that is not known, I for a sum that is too large, S for one that is below
-- the estimate, D for what has ended already.
--include once.lua
local key, id = KEYS[1], ARGV[1]
local record = redis.call('HGET', KEYS[2], id)
--include known.lua
local to_input, to_output, to_credits = unpack('<i7i7i7', ARGV[2])
if to_input < 0 then to_input = input end
if to_output < 0 then to_output = output end
if to_credits < 0 then to_credits = credits end
if to_input + to_output > MAX then return say('I') end
if to_input < input or to_output < output or to_credits < credits then return say('S') end
if ended > 0 then return say('D') end

local missing = pack('<I7I7I7I7', 0, to_input - input, to_output - output, to_credits - credits)
local reply = decide({ key }, { sub(record, 110), ASKS .. missing })
if is_allowed(reply) then
  redis.call('HSET', KEYS[2], id, sub(record, 1, 37) .. pack('<I7I7I7', to_input, to_output, to_credits) .. sub(record, 59))
end
return { 'T', time[1], time[2], record, reply }
