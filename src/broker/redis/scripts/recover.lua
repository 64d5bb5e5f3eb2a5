-- Takes back what daemons without a lease have left in flight: to the head of where it came from, in its order.
-- KEYS: all daemons by their last heartbeat, delayed requests, our in-flight list, the two queues.
-- ARGV: our name, what starts the names of leases, fences, in-flight lists and delivery counts, how many deliveries an
-- element gets, how many elements to take back at the most.
-- Gives back how many went back, and the elements that have had all their deliveries, which are ours now.
local nodes, delayed, ours, lost = KEYS[1], KEYS[2], KEYS[3], {}
local sources = {{'', KEYS[4]}, {'.1', KEYS[5]}, {'.delayed', delayed}}
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local left, back = tonumber(ARGV[7]), 0
-- One that was only held up may still claim, until it learns that it is fenced; so its lists are looked at for a while.
local forget = now - 600000

for _, node in ipairs(redis.call('ZRANGE', nodes, 0, -1)) do
  if node ~= ARGV[1] and redis.call('EXISTS', ARGV[2] .. node) == 0 then
    redis.call('SET', ARGV[3] .. node, 'gone', 'EX', 86400)
    for _, source in ipairs(sources) do
      local list = ARGV[4] .. node .. source[1]
      while left > 0 do
        local element = redis.call('LINDEX', list, -1)
        if not element then break end
        local count = ARGV[5] .. redis.sha1hex(element)
        local deliveries = redis.call('INCR', count)
        redis.call('EXPIRE', count, 86400)
        if deliveries >= tonumber(ARGV[6]) then
          redis.call('LMOVE', list, ours, 'RIGHT', 'RIGHT')
          lost[#lost + 1] = element
        elseif source[2] == delayed then
          redis.call('ZADD', delayed, now, element)
          redis.call('RPOP', list)
          back = back + 1
        else
          redis.call('LMOVE', list, source[2], 'RIGHT', 'LEFT')
          back = back + 1
        end
        left = left - 1
      end
    end
    if left > 0 and tonumber(redis.call('ZSCORE', nodes, node)) < forget then redis.call('ZREM', nodes, node) end
  end
end
return {back, lost}
