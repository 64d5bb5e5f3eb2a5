-- Renews the lease of the daemon ARGV[1]. KEYS: all daemons by their last heartbeat, lease, fence, names of further queues,
-- version of the data. ARGV: name, length of the lease in milliseconds, what the daemon says of itself, what starts the keys
-- of further queues, the version that it knows, the further queues that it serves.
-- Gives back 0 if others have taken over what it had, and the version, negative, if that is newer than it knows.
local version = redis.call('GET', KEYS[5])
if not version then
  redis.call('SET', KEYS[5], ARGV[5])
elseif tonumber(version) and tonumber(version) > tonumber(ARGV[5]) then
  return -tonumber(version)
end
local fence = redis.call('GET', KEYS[3])
if fence == 'gone' then return 0 end
-- The fence is watched by whoever settles, so it is written only when it must be.
if not fence or redis.call('TTL', KEYS[3]) < 86400 then redis.call('SET', KEYS[3], 'here', 'EX', 172800) end
redis.call('SET', KEYS[2], ARGV[3], 'PX', ARGV[2])
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
redis.call('ZADD', KEYS[1], now, ARGV[1])
for i = 6, #ARGV do
  redis.call('ZADD', KEYS[4], now, ARGV[i])
end
-- What nobody has served for a week is forgotten, unless something waits there.
for _, name in ipairs(redis.call('ZRANGEBYSCORE', KEYS[4], '-inf', now - 604800000)) do
  if redis.call('EXISTS', ARGV[4] .. name) == 0 then redis.call('ZREM', KEYS[4], name) end
end
return 1
