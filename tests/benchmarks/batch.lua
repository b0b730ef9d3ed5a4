-- Batches of 1,000 vehicle readings of 10,000 vehicles; prepared beforehand, so that the load
-- generator takes little of the machine.

dofile("tests/benchmarks/report.lua")

local threads = 0

function setup(thread)
   thread:set("number", threads)
   threads = threads + 1
end

function init()
   sent = number * 5
   requests = {}
   local headers = { ["Content-Type"] = "application/json" }
   for batch = 0, 9 do
      local readings = {}
      for vehicle = batch * 1000, batch * 1000 + 999 do
         readings[#readings + 1] = '{"vehicleId":"V' .. vehicle ..
            '","soc":81.5,"kwhDeliveredDc":1.25,"batteryTemp":32.1}'
      end
      local body = "[" .. table.concat(readings, ",") .. "]"
      requests[batch] = wrk.format("POST", "/v1/ingest/vehicle/batch", headers, body)
   end
end

function request()
   sent = sent + 1
   return requests[sent % 10]
end
