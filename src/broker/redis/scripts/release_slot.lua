-- Frees the place of ARGV[1] among KEYS[1], and lets the first of those that wait in KEYS[2] start: it goes to the delayed
-- requests KEYS[3] as due now, ARGV[2], and so past the queue, in which it has waited already.
redis.call('ZREM', KEYS[1], ARGV[1])
local next = redis.call('LPOP', KEYS[2])
if next then redis.call('ZADD', KEYS[3], ARGV[2], next) end
return 1
