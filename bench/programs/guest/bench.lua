-- What scripts do: calls, closures, tables, strings, floating point. Prints a checksum.

local function fib(n)
  if n < 2 then return n end
  return fib(n - 1) + fib(n - 2)
end

local function sieve(limit)
  local composite, count = {}, 0
  for i = 2, limit do
    if not composite[i] then
      count = count + 1
      for j = i * i, limit, i do composite[j] = true end
    end
  end
  return count
end

local function words(count)
  local seen, order = {}, {}
  for i = 1, count do
    local word = string.format("w%d", i * 7919 % 4001)
    if seen[word] then
      seen[word] = seen[word] + 1
    else
      seen[word] = 1
      order[#order + 1] = word
    end
  end
  table.sort(order)
  return #table.concat(order, " "):gsub("1", "one")
end

local function orbit(steps)
  local x, y, vx, vy = 1.0, 0.0, 0.0, 1.0
  for _ = 1, steps do
    local r = (x * x + y * y) ^ 1.5
    vx, vy = vx - x / r * 0.001, vy - y / r * 0.001
    x, y = x + vx * 0.001, y + vy * 0.001
  end
  return math.floor(x * 1e6)
end

local Account = {}
Account.__index = Account

function Account.new(balance)
  return setmetatable({balance = balance}, Account)
end

function Account:add(amount)
  self.balance = self.balance + amount
  return function() return self.balance end
end

local function objects(count)
  local account, last = Account.new(0), nil
  for i = 1, count do last = account:add(i % 3) end
  return last()
end

print(fib(24), sieve(200000), words(40000), orbit(200000), objects(200000))
