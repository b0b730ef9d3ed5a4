-- The smallest view that the engine has: the ceiling of a single reading.

dofile("tests/benchmarks/report.lua")

function request()
   return wrk.format("GET", "/health/live")
end
