-- What the scripts share that remember calls by their ids. What is remembered lies beside the state of the key, under the
-- same hash tag; see codec/reservation.rs.
local sub, byte = string.sub, string.byte
local MAX, NO_LIMIT = 9007199254740991, -1
local now = second * 1000 + (time[2] - time[2] % 1000) / 1000

-- Which windows a scope has that is counted since its key was made and was never mended; see `mended`.
local FIRST_WINDOWS = '\1\0\0\0\0\0'
-- So many are given up at most by one call.
local GIVEN_UP = 32
