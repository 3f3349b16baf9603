-- Applies records of one node. A record replaces the stored one only where its rank is higher, or where it reports the
-- same end with a later last sign of life, or with the same one and noticed earlier; so order and repetition do not
-- matter. One that is sent again under another key takes the new seal; an open one is listed again. A record whose epoch is fenced may only close. A closed record
-- stays for a while as its own tombstone.
--
-- KEYS: the node's fence, lease, beats and changes; then the hash of each record's session.
-- ARGV: the epoch below which the caller fences, the lease it left, the lease it leaves, how long a closed record stays
-- in seconds, how many changes are kept, the number of fields, their names (rank, epoch and status come first); then of
-- each record its id and its fields.
-- Returns 1 if the lease was as the caller left it, else 0.
local fence, lease, beats, changes = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local left, leaves, tombstone, kept, count = ARGV[2], ARGV[3], ARGV[4], ARGV[5], tonumber(ARGV[6])

local fenced = tonumber(redis.call('GET', fence)) or 0
if tonumber(ARGV[1]) > fenced then
  fenced = tonumber(ARGV[1])
  redis.call('SET', fence, ARGV[1])
end

local places = {}
for field = 1, count do
  places[ARGV[6 + field]] = field
end

local at = 6 + count
for session = 5, #KEYS do
  local key, id, rank, epoch, status = KEYS[session], ARGV[at + 1], ARGV[at + 2], ARGV[at + 3], ARGV[at + 4]
  local closed = status == 'closed'
  local known = tonumber(redis.call('HGET', key, 'rank')) or -1
  local above = tonumber(rank) > known
  local same = tonumber(rank) == known
  local resealed = same and places.seal and redis.call('HGET', key, 'seal') ~= ARGV[at + 1 + places.seal]
  if not closed then
    above = above or resealed
  elseif same then
    local ends, notices = tonumber(ARGV[at + 1 + places.end_time]), tonumber(ARGV[at + 1 + places.detected_at])
    local stored = redis.call('HMGET', key, 'end_time', 'detected_at')
    local ended, noticed = tonumber(stored[1]), tonumber(stored[2])
    above = ends and ended and notices and noticed and (ends > ended or (ends == ended and notices < noticed))
    above = above or (resealed and ends == ended and notices == noticed)
  end
  if above and (closed or tonumber(epoch) > fenced) then
    local fields = {}
    for field = 1, count do
      fields[2 * field - 1] = ARGV[6 + field]
      fields[2 * field] = ARGV[at + 1 + field]
    end
    redis.call('HSET', key, unpack(fields))
    if closed then
      redis.call('EXPIRE', key, tombstone)
      redis.call('ZREM', beats, id)
    else
      -- Without a beat so far; from now on it can have one.
      redis.call('ZADD', beats, 'NX', 0, id)
    end
    redis.call('XADD', changes, 'MAXLEN', '~', kept, '*', 'id', id, 'rank', rank, 'status', status)
  elseif not closed and tonumber(rank) == known and tonumber(epoch) > fenced then
    -- Sent again because it is not listed: the beats may be lost alone.
    redis.call('ZADD', beats, 'NX', 0, id)
  elseif closed and tonumber(rank) == known then
    -- Told again because the records still lack it: it stays for as long as if it were new.
    redis.call('EXPIRE', key, tombstone)
  end
  at = at + 1 + count
end

if left ~= '' and redis.call('GET', lease) == left then
  redis.call('SET', lease, leaves, 'KEEPTTL')
  return 1
end
return 0
