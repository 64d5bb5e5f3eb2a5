-- Puts the element ARGV[1] from the in-flight list KEYS[1] back to the head of the queue KEYS[2], unless an earlier
-- attempt did.
if redis.call('LREM', KEYS[1], 1, ARGV[1]) == 1 or not redis.call('LPOS', KEYS[2], ARGV[1]) then
  redis.call('LPUSH', KEYS[2], ARGV[1])
end
return 1
