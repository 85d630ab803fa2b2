-- The time is what the caller says, in its last two arguments, in the form of TIME: for tests and replays.
local redis, struct = redis, struct
local time = { ARGV[#ARGV - 1], ARGV[#ARGV] }
local second = time[1] + 0
local unpack, pack = struct.unpack, struct.pack
