-- One line for the script that runs wrk. Without a request function wrk sends prepared bytes.
function done(summary, latency)
   local errors = summary.errors
   print(string.format("REPORT requests=%d seconds=%.6f bytes=%d p50_us=%d p99_us=%d errors=%d",
      summary.requests, summary.duration / 1e6, summary.bytes, latency:percentile(50), latency:percentile(99),
      errors.connect + errors.read + errors.write + errors.timeout + errors.status))
end
