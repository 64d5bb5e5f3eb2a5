-- Whether the element ARGV[2], which this daemon ARGV[3] has in flight, is what a room has sent under the id ARGV[1], and no copy of it.
-- KEYS: what the room has sent, which daemon has taken each, names of further queues. ARGV: id, element, our name, what starts the
-- names of leases and of in-flight lists. Gives back 1 if so; then it is taken by us.
if redis.call('HGET', KEYS[1], ARGV[1]) ~= ARGV[2] then return 0 end
local taker = redis.call('HGET', KEYS[2], ARGV[1])
local is_ours = taker == ARGV[3]
if taker and (is_ours or redis.call('EXISTS', ARGV[4] .. taker) == 1) then
  -- Who has it in flight works on it. One of ours is this one: we may ask again, when we did not hear the answer.
  local count = is_ours and -1 or 0
  local suffixes = {'', '.1', '.delayed', '.inbox', '.once'}
  for _, name in ipairs(redis.call('ZRANGE', KEYS[3], 0, -1)) do suffixes[#suffixes + 1] = '.queue.' .. name end
  for _, suffix in ipairs(suffixes) do
    count = count + #redis.call('LPOS', ARGV[5] .. taker .. suffix, ARGV[2], 'COUNT', 2)
  end
  if count > 0 then return 0 end
end
redis.call('HSET', KEYS[2], ARGV[1], ARGV[3])
return 1
