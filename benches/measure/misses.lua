-- Every request for a key that nobody asked for before: the path, the run's name, a number.
local number, name = 0, "0"

function init(arguments)
   name = arguments[1] or name
end

function request()
   number = number + 1
   return wrk.format(nil, wrk.path .. name .. "-" .. number)
end

function done(summary, latency)
   local errors = summary.errors
   print(string.format("REPORT requests=%d seconds=%.6f bytes=%d p50_us=%d p99_us=%d errors=%d",
      summary.requests, summary.duration / 1e6, summary.bytes, latency:percentile(50), latency:percentile(99),
      errors.connect + errors.read + errors.write + errors.timeout + errors.status))
end
