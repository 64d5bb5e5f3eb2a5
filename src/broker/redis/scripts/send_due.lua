-- Lets the request ARGV[2] wait until ARGV[1], in the place of what waits under the same name.
-- KEYS: what waits under the name, delayed requests. ARGV: when it is due, the request, when the name is forgotten; in milliseconds.
local before = redis.call('GET', KEYS[1])
if before then redis.call('ZREM', KEYS[2], before) end
redis.call('ZADD', KEYS[2], ARGV[1], ARGV[2])
redis.call('SET', KEYS[1], ARGV[2], 'PXAT', ARGV[3])
return 1
