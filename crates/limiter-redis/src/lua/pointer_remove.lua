-- Removes a pointer if it is the one that was set under this claim. A claim is never used for a second key, so this may
-- run at any time after its key is gone.
--
-- KEYS: pointer
-- ARGV: the claim, with the separator behind it
local held = redis.call('GET', KEYS[1])
if held and string.sub(held, 1, #ARGV[1]) == ARGV[1] then redis.call('DEL', KEYS[1]) end
return 1
