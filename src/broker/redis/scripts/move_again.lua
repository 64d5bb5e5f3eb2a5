-- Moves one element out of the in-flight list KEYS[2] after an attempt that ended without a word: back to the head of the
-- queue KEYS[3], or, with a time ARGV[2], as ARGV[3] into the sorted set KEYS[3]. KEYS[1] is the fence, KEYS[4] the body
-- that goes with it, or the fence if none does. ARGV[1] is the element.
-- Gives back -1 if others have taken over, and else 1.
if redis.call('GET', KEYS[1]) == 'gone' then return -1 end
if ARGV[2] ~= '' then
  redis.call('ZADD', KEYS[3], ARGV[2], ARGV[3])
  redis.call('LREM', KEYS[2], 1, ARGV[1])
elseif redis.call('LREM', KEYS[2], 1, ARGV[1]) == 1 or not redis.call('LPOS', KEYS[3], ARGV[1]) then
  redis.call('LPUSH', KEYS[3], ARGV[1])
end
if KEYS[4] ~= KEYS[1] then redis.call('DEL', KEYS[4]) end
return 1
