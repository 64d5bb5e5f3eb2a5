-- Puts the request ARGV[1] into the queue KEYS[1] and notes its stage in KEYS[2] for ARGV[2] seconds, unless it has one or a result,
-- KEYS[3]. Gives back 1 if it was new.
if redis.call('EXISTS', KEYS[3]) == 1 then return 0 end
if not redis.call('SET', KEYS[2], 'accepted', 'NX', 'EX', ARGV[2]) then return 0 end
redis.call('RPUSH', KEYS[1], ARGV[1])
return 1
