-- A cart, taken whole or not at all.
-- KEYS: the idempotency key, the counter of orders, the stock of each line's item.
-- ARGV: the customer, and the units of each line.
local known = redis.call('GET', KEYS[1])
if known then return tonumber(known) end

local lines = #KEYS - 2
local stock = redis.call('MGET', unpack(KEYS, 3))
for line = 1, lines do
  local wanted, available = tonumber(ARGV[line + 1]), tonumber(stock[line] or 0)
  if available < wanted then
    return redis.error_reply('OUTOFSTOCK ' .. KEYS[line + 2] .. ' wanted ' .. wanted .. ', available ' .. available)
  end
end

local order = { 'customer', ARGV[1] }
for line = 1, lines do
  redis.call('DECRBY', KEYS[line + 2], ARGV[line + 1])
  order[#order + 1] = KEYS[line + 2]
  order[#order + 1] = ARGV[line + 1]
end

local id = redis.call('INCR', KEYS[2])
redis.call('HSET', 'order:' .. id, unpack(order))
redis.call('SET', KEYS[1], id, 'EX', 86400)
return id
