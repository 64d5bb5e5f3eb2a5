-- The daemon ARGV[1] ends. KEYS: all daemons by their last heartbeat, lease, fence, its in-flight lists.
-- What it could not settle stays, and without a lease others take it back at once.
redis.call('DEL', KEYS[2])
for i = 4, #KEYS do
  if redis.call('EXISTS', KEYS[i]) == 1 then return 0 end
end
redis.call('DEL', KEYS[3])
redis.call('ZREM', KEYS[1], ARGV[1])
return 1
