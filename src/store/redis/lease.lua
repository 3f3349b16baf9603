-- Renews the lease of one start of a node and fences the starts before it.
--
-- KEYS: the node's fence and lease.
-- ARGV: the epoch, the new lease, how long it stays in milliseconds.
-- Returns the lease that was there, or nil; an error FENCED if a later start has fenced this one.
local fence, lease = KEYS[1], KEYS[2]
local epoch, renewed, stays = tonumber(ARGV[1]), ARGV[2], ARGV[3]

local fenced = tonumber(redis.call('GET', fence)) or 0
if fenced >= epoch then
  return redis.error_reply('FENCED a later start of this node has taken over')
end
if epoch - 1 > fenced then
  redis.call('SET', fence, string.format('%.0f', epoch - 1))
end
return redis.call('SET', lease, renewed, 'PX', stays, 'GET')
