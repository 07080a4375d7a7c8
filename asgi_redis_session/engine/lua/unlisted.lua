-- Put in front of what writes a hash whose place in the user's index is not confirmed yet. Such a hash lives for a short
-- while only, so that it vanishes by itself if it is never confirmed; place_confirm.lua or keep.lua gives it its own TTL.
-- ARGV[1]: for how many milliseconds, or '' if the session has no place; then the arguments of the script that follows.
unconfirmed = tonumber(table.remove(ARGV, 1))
