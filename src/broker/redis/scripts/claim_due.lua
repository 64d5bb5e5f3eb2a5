-- Takes up to ARGV[2] elements that are due at ARGV[1] from the sorted set KEYS[1] into the in-flight list KEYS[2], and, if
-- ARGV[3] is 1, one of the requests KEYS[3] that start alone.
-- Gives back the elements, when the next one is due, the one that starts alone, and how many of those are left.
local elements = redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', ARGV[1], 'LIMIT', 0, ARGV[2])
if #elements > 0 then
  -- First what a Redis that is out of memory refuses.
  redis.call('RPUSH', KEYS[2], unpack(elements))
  redis.call('ZREM', KEYS[1], unpack(elements))
end
local alone = ARGV[3] == '1' and redis.call('LMOVE', KEYS[3], KEYS[2], 'LEFT', 'RIGHT')
local first = redis.call('ZRANGE', KEYS[1], 0, 0, 'WITHSCORES')
-- `false` is nil to the caller; nil would cut the array short.
return {elements, first[2] or false, alone or false, redis.call('LLEN', KEYS[3])}
