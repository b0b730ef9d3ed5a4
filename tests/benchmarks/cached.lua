-- Figures of the last 24 hours of a hundred vehicles, which are in the cache soon.

dofile("tests/benchmarks/report.lua")

function init()
   sent = 0
end

function request()
   sent = sent + 1
   return wrk.format("GET", "/v1/analytics/performance/V" .. (sent % 100 + 1))
end
