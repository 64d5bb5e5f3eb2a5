-- Takes the entry ARGV[1] out of the dead list KEYS[1] and puts its request ARGV[2] into the queue KEYS[2]. Gives back 0 if
-- somebody else has taken it out. Under the id ARGV[3] it is noted in KEYS[3] as sent by its room, where it has one ('' else).
if redis.call('ZREM', KEYS[1], ARGV[1]) == 0 then return 0 end
if ARGV[3] ~= '' then redis.call('HSET', KEYS[3], ARGV[3], ARGV[2]) end
redis.call('RPUSH', KEYS[2], ARGV[2])
return 1
