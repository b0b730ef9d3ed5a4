-- One vehicle reading per request, of 10,000 vehicles in turn; without a timestamp, as most send it.

dofile("tests/benchmarks/report.lua")

local threads = 0

function setup(thread)
   thread:set("number", threads)
   threads = threads + 1
end

function init()
   sent = 0
   headers = { ["Content-Type"] = "application/json" }
   local key = os.getenv("API_KEY") or ""
   if key ~= "" then
      headers["Authorization"] = "Bearer " .. key
   end
end

function request()
   sent = sent + 1
   local vehicle = (number * 5000 + sent) % 10000
   local body = '{"vehicleId":"V' .. vehicle .. '","soc":81.5,"kwhDeliveredDc":1.25,"batteryTemp":32.1}'
   return wrk.format("POST", "/v1/ingest/vehicle", headers, body)
end
