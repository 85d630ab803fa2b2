-- Should the key not be called any more, Redis forgets what has passed. Put off so far each time that it is done rarely.
if redis.call('PTTL', KEYS[2]) < life then
  for remembered = 2, #KEYS do redis.call('PEXPIRE', KEYS[remembered], 2 * life + 60000) end
end
