-- Single readings as in single.lua, which counts what a device that is refused sees.

dofile("tests/benchmarks/single.lua")

local threads = {}
local number_thread = setup
local report = done

function setup(thread)
   number_thread(thread)
   threads[#threads + 1] = thread
end

local begin = init

function init()
   begin()
   stored, refused, without_retry_after, other = 0, 0, 0, 0
end

function response(status, headers)
   if status == 201 then
      stored = stored + 1
   elseif status == 429 or status == 503 then
      refused = refused + 1
      if not headers["Retry-After"] then
         without_retry_after = without_retry_after + 1
      end
   else
      other = other + 1
   end
end

-- Two lines: that of report.lua, then readings stored, refusals, refusals without Retry-After, other
-- answers, connections that were not made, that broke, and answers that took too long.
function done(summary, latency, requests)
   report(summary, latency, requests)
   local answers = { stored = 0, refused = 0, without_retry_after = 0, other = 0 }
   for _, thread in ipairs(threads) do
      for name, count in pairs(answers) do
         answers[name] = count + thread:get(name)
      end
   end
   local errors = summary.errors
   io.write(string.format("answers %d %d %d %d %d %d %d\n",
      answers.stored, answers.refused, answers.without_retry_after, answers.other,
      errors.connect, errors.read + errors.write, errors.timeout))
end
