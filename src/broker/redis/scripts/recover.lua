-- Takes back what daemons without a lease have left in flight: to the head of where it came from, in its order. What was for
-- such a daemon alone goes to the usual queue, and what must not run again is lost at once. What has one delivery left goes
-- where it starts alone, as it may have died only beside another that kills daemons.
-- KEYS: all daemons by their last heartbeat, delayed requests, our in-flight list, the two usual queues, names of further
-- queues, requests that start alone. ARGV: our name, what starts the names of leases, fences, in-flight lists and delivery
-- counts, how many deliveries an element gets, how many elements to take back at the most, what starts the names of further
-- queues and inboxes.
-- Gives back how many went back, and the elements that have had all their deliveries, which are ours now.
local nodes, delayed, ours, usual, lost = KEYS[1], KEYS[2], KEYS[3], KEYS[4], {}
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local left, back = tonumber(ARGV[7]), 0
-- One that was only held up may still claim, until it learns that it is fenced; so its lists are looked at for a while.
local forget = now - 600000

local dead = {}
for _, node in ipairs(redis.call('ZRANGE', nodes, 0, -1)) do
  if node ~= ARGV[1] and redis.call('EXISTS', ARGV[2] .. node) == 0 then dead[#dead + 1] = node end
end
if #dead == 0 then return {back, lost} end

local sources = {{'', usual}, {'.1', KEYS[5]}, {'.delayed', delayed}, {'.inbox', usual}}
for _, name in ipairs(redis.call('ZRANGE', KEYS[6], 0, -1)) do
  sources[#sources + 1] = {'.queue.' .. name, ARGV[8] .. name}
end
for _, node in ipairs(dead) do
  redis.call('SET', ARGV[3] .. node, 'gone', 'EX', 86400)
  while left > 0 do
    local element = redis.call('LMOVE', ARGV[4] .. node .. '.once', ours, 'RIGHT', 'RIGHT')
    if not element then break end
    lost[#lost + 1] = element
    left = left - 1
  end
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
      elseif deliveries == ARGV[6] - 1 then
        redis.call('LMOVE', list, KEYS[7], 'RIGHT', 'LEFT')
        back = back + 1
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
  while left > 0 and redis.call('LMOVE', ARGV[9] .. node, usual, 'RIGHT', 'LEFT') do
    back = back + 1
    left = left - 1
  end
  if left > 0 and tonumber(redis.call('ZSCORE', nodes, node)) < forget then redis.call('ZREM', nodes, node) end
end
return {back, lost}
