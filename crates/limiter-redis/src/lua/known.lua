-- Goes on with a reservation that is known, and tells of one that is not.
local function say(letter) return { letter, time[1], time[2], record } end
local function unknown() return say(redis.call('EXISTS', key) == 1 and 'X' or 'U') end
if not record then return unknown() end
--include reservation.lua
if ends_at <= now then return unknown() end
