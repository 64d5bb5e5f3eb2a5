-- Puts ARGV[2] in the place of the element ARGV[1] in the in-flight list KEYS[2], unless others have taken that over: KEYS[1] is the fence.
-- Tells whether it is there.
if redis.call('GET', KEYS[1]) == 'gone' then return 0 end
if redis.call('LPOS', KEYS[2], ARGV[1]) then
  -- First what a Redis that is out of memory refuses.
  redis.call('RPUSH', KEYS[2], ARGV[2])
  redis.call('LREM', KEYS[2], 1, ARGV[1])
  return 1
end
-- An attempt that ended without a word has done it.
return redis.call('LPOS', KEYS[2], ARGV[2]) and 1 or 0
