-- Takes up to ARGV[5] elements out of one further queue that no daemon serves, into the list of what must not run again: it ends here, and
-- who takes it over if we die ends it as well.
-- KEYS: names of further queues by when they were last served, or, negative, since when they are known and nobody has ever served them;
-- our list of what must not run again; our fence. ARGV: what starts the keys of further queues, now, how long one may be known that nobody
-- has served, how long after it was served one keeps what it has, how many elements.
-- Gives back the name of the queue, and the elements.
if redis.call('GET', KEYS[3]) == 'gone' then return {false, {}} end
local now, grace, served = tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])
local names = redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', now - served, 'WITHSCORES')
for i = 1, #names, 2 do
  local name, score = names[i], tonumber(names[i + 1])
  local key = ARGV[1] .. name
  if score >= 0 or now + score >= grace then
    local elements = {}
    while #elements < tonumber(ARGV[5]) do
      local element = redis.call('LMOVE', key, KEYS[2], 'LEFT', 'RIGHT')
      if not element then break end
      elements[#elements + 1] = element
    end
    if #elements > 0 then return {name, elements} end
  end
end
return {false, {}}
