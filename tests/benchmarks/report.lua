-- One line for the harness: requests, seconds, 50th and 99th percentile in ms, refused, broken.
function done(summary, latency, requests)
   local errors = summary.errors
   io.write(string.format("result %d %.3f %.2f %.2f %d %d\n",
      summary.requests, summary.duration / 1e6,
      latency:percentile(50) / 1e3, latency:percentile(99) / 1e3,
      errors.status, errors.connect + errors.read + errors.write + errors.timeout))
end
