-- Cancels the request ARGV[1] where it waits, or tells the daemon that has it to.
-- KEYS: the two usual queues, delayed requests, names of further queues, all daemons, limited functions, counts of verdicts,
-- the result, what it holds, its body in both spellings, requests that start alone, its stage, what its room has sent, its
-- deliveries, who has taken what its room has sent, unique keys that are waited for. ARGV: its id, its number (or ''), TTL of the result, the answer,
-- the message to a daemon; what starts the names of further queues, inboxes, waiting calls of limited functions, in-flight
-- lists, messages, calls that wait for a unique key; the channel of its stage; then channels and answers in turn.
-- Gives back what became of it, and the daemon that has it.
local id, number = ARGV[1], ARGV[2]

local function is_it(element)
  if element == number then return true end
  if not string.find(element, id, 1, true) then return false end
  local is_json, request = pcall(cjson.decode, element)
  return is_json and type(request) == 'table' and request.id == id
end

local function find(key, range)
  local from = 0
  while true do
    local elements = redis.call(range, key, from, from + 999)
    for _, element in ipairs(elements) do
      if is_it(element) then return element end
    end
    if #elements < 1000 then return nil end
    from = from + 1000
  end
end

local function settle(element)
  local json = element
  if element == number then json = redis.call('GET', KEYS[10]) or redis.call('GET', KEYS[11]) or '' end
  local unique = redis.call('GET', KEYS[9])
  if unique and redis.call('GET', unique) == id then redis.call('DEL', unique) end
  redis.call('DEL', KEYS[9], KEYS[10], KEYS[11], KEYS[15])
  local is_tracked = redis.call('DEL', KEYS[13]) == 1
  redis.call('HDEL', KEYS[14], id)
  redis.call('HDEL', KEYS[16], id)
  redis.call('HINCRBY', KEYS[7], 'cancelled', 1)
  local is_json, request = pcall(cjson.decode, json)
  if is_json and type(request) == 'table' and request.reply == false then
    if is_tracked then redis.call('PUBLISH', ARGV[12], 'ended') end
    return
  end
  redis.call('SET', KEYS[8], ARGV[4], 'EX', ARGV[3])
  for i = 13, #ARGV, 2 do
    redis.call('PUBLISH', ARGV[i], ARGV[i + 1])
  end
end

local names = redis.call('ZRANGE', KEYS[4], 0, -1)
local nodes = redis.call('ZRANGE', KEYS[5], 0, -1)
local lists = {KEYS[1], KEYS[2], KEYS[12]}
for _, name in ipairs(names) do lists[#lists + 1] = ARGV[6] .. name end
for _, node in ipairs(nodes) do lists[#lists + 1] = ARGV[7] .. node end
for _, func in ipairs(redis.call('HKEYS', KEYS[6])) do lists[#lists + 1] = ARGV[8] .. func end
for _, key in ipairs(redis.call('SMEMBERS', KEYS[17])) do lists[#lists + 1] = ARGV[11] .. key end
for _, list in ipairs(lists) do
  local element = find(list, 'LRANGE')
  if element then
    redis.call('LREM', list, 1, element)
    settle(element)
    return {'cancelled', false}
  end
end
local element = find(KEYS[3], 'ZRANGE')
if element then
  redis.call('ZREM', KEYS[3], element)
  settle(element)
  return {'cancelled', false}
end

local suffixes = {'', '.1', '.delayed', '.inbox', '.once'}
for _, name in ipairs(names) do suffixes[#suffixes + 1] = '.queue.' .. name end
for _, node in ipairs(nodes) do
  for _, suffix in ipairs(suffixes) do
    if find(ARGV[9] .. node .. suffix, 'LRANGE') then
      local messages = ARGV[10] .. node
      redis.call('RPUSH', messages, ARGV[5])
      redis.call('LTRIM', messages, -1000, -1)
      redis.call('EXPIRE', messages, 60)
      return {'in flight', node}
    end
  end
end
return {redis.call('EXISTS', KEYS[8]) == 1 and 'ended' or 'unknown', false}
