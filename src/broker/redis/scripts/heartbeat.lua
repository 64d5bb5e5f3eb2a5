-- Renews the lease of the daemon ARGV[1]. KEYS: all daemons by their last heartbeat, lease, fence. ARGV: name, length of
-- the lease in milliseconds, what the daemon says of itself. Gives back 0 if others have taken over what it had.
local fence = redis.call('GET', KEYS[3])
if fence == 'gone' then return 0 end
-- The fence is watched by whoever settles, so it is written only when it must be.
if not fence or redis.call('TTL', KEYS[3]) < 86400 then redis.call('SET', KEYS[3], 'here', 'EX', 172800) end
redis.call('SET', KEYS[2], ARGV[3], 'PX', ARGV[2])
local time = redis.call('TIME')
redis.call('ZADD', KEYS[1], time[1] * 1000 + math.floor(time[2] / 1000), ARGV[1])
return 1
