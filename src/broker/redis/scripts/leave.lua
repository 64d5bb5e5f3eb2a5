-- The daemon ARGV[1] ends. KEYS: all daemons by their last heartbeat, lease, fence, the usual queue, its inbox, the
-- number of its last batch, its in-flight lists. What waited for it alone goes to the head of the usual queue, where others see that it is gone.
-- What it could not settle stays, and without a lease others take it back at once.
redis.call('DEL', KEYS[2])
while redis.call('LMOVE', KEYS[5], KEYS[4], 'RIGHT', 'LEFT') do end
for i = 7, #KEYS do
  if redis.call('EXISTS', KEYS[i]) == 1 then return 0 end
end
redis.call('DEL', KEYS[3], KEYS[6])
redis.call('ZREM', KEYS[1], ARGV[1])
return 1
