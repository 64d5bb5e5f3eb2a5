-- Takes up to ARGV[2] of the newest elements of the queue KEYS[1] that stand behind ARGV[1] others into the in-flight list
-- KEYS[2].
local excess = math.min(redis.call('LLEN', KEYS[1]) - tonumber(ARGV[1]), tonumber(ARGV[2]))
if excess <= 0 then return {} end
local elements = redis.call('LRANGE', KEYS[1], -excess, -1)
-- First what a Redis that is out of memory refuses.
redis.call('RPUSH', KEYS[2], unpack(elements))
redis.call('LTRIM', KEYS[1], 0, -excess - 1)
return elements
