-- Ten thousand keys in turn, so that no two requests under way want the same one.
local number, keys = 0, 10000

function init(arguments)
   keys = tonumber(arguments[1]) or keys
end

function request()
   number = (number + 7919) % keys
   return wrk.format(nil, wrk.path .. number)
end

function done(summary, latency)
   local errors = summary.errors
   print(string.format("REPORT requests=%d seconds=%.6f bytes=%d p50_us=%d p99_us=%d errors=%d",
      summary.requests, summary.duration / 1e6, summary.bytes, latency:percentile(50), latency:percentile(99),
      errors.connect + errors.read + errors.write + errors.timeout + errors.status))
end
