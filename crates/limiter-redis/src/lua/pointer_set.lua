-- Points digests to keys that are about to be created, unless they point elsewhere.
--
-- KEYS: pointers
-- ARGV: the last server time in ms at which this may run, and for each pointer: the new one, the one that may be replaced
-- (or '')
-- Answers: late | now, and for each pointer the one that is there, or '' if the new one is
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
if now > tonumber(ARGV[1]) then return { 'late' } end
local answer = { string.format('%.0f', now) }
for place, pointer in ipairs(KEYS) do
  local held = redis.call('GET', pointer)
  local stays = held and held ~= ARGV[2 * place + 1]
  if not stays then redis.call('SET', pointer, ARGV[2 * place]) end
  answer[place + 1] = stays and held or ''
end
return answer
