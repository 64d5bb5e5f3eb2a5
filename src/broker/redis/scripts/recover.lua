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
-- The id of a request as it is written; false where it has none, nil where that cannot be told.
local function id_of(element)
  if string.match(element, '^%d+$') then
    local number = string.match(element, '^0*(%d+)$')
    return string.rep('0', 10 - #number) .. number
  end
  local id = string.match(element, '^%s*{%s*"id"%s*:%s*"([%w_.:%-]+)"')
  if id then return id end
  local is_json, request = pcall(cjson.decode, element)
  if not is_json or type(request) ~= 'table' then return nil end
  if type(request.id) == 'string' then return request.id end
  if request.id == nil and request.func then return false end
  return nil
end

-- One that died before it had an id gets one, so that others which are equal are not taken for it.
local made = 0
local function named(element, node)
  made = made + 1
  local id = redis.sha1hex(node .. ' ' .. time[1] .. ' ' .. time[2] .. ' ' .. made .. ' ' .. element)
  return id, '{"id":"' .. id .. '",' .. string.match(element, '^%s*{(.*)$')
end

-- One death counts once for each request, however often its element stood in the lists.
local counted = {}
local function deliveries_of(id)
  local key = ARGV[5] .. id
  if not counted[id] then
    counted[id] = redis.call('INCR', key)
    redis.call('EXPIRE', key, 86400)
  end
  return counted[id]
end

-- Moves the last element of `list`, which is `element`, to an end of `to`, where it is `new`.
local function move(list, to, side, element, new)
  if new == element then return redis.call('LMOVE', list, to, 'RIGHT', side) end
  redis.call(side == 'LEFT' and 'LPUSH' or 'RPUSH', to, new)
  redis.call('RPOP', list)
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
      local id, new = id_of(element), element
      if id == false then id, new = named(element, node) end
      local deliveries = deliveries_of(id or redis.sha1hex(element))
      if deliveries >= tonumber(ARGV[6]) then
        move(list, ours, 'RIGHT', element, new)
        lost[#lost + 1] = new
      elseif deliveries == ARGV[6] - 1 then
        move(list, KEYS[7], 'LEFT', element, new)
        back = back + 1
      elseif source[2] == delayed then
        redis.call('ZADD', delayed, now, new)
        redis.call('RPOP', list)
        back = back + 1
      else
        move(list, source[2], 'LEFT', element, new)
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
