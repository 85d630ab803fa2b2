-- Functions of all scripts on the slot of a workspace.
local function now_ms()
  local time = redis.call('TIME')
  return time[1] * 1000 + math.floor(time[2] / 1000)
end
-- Whether the change in the hash has a client that may still be at work. A clock that has stepped back by more than half
-- a lease is outside of what the protocol assumes anyway: the change counts as left behind then, or it would block its
-- workspace until the clock is there again.
local function is_alive(began, lease, now)
  return now < began + lease and now > began - lease / 2
end
-- Whether another key has this name or mask in the hash `taken`.
local function is_taken(taken, field, id)
  local holder = redis.call('HGET', taken, field)
  return holder and holder ~= id
end
