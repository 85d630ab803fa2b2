-- The time is what the caller says, in its last two arguments, in the form of TIME: for tests and replays.
local redis, struct = redis, struct
local time, clock_arguments = { ARGV[#ARGV - 1], ARGV[#ARGV] }, 2
local second = time[1] + 0
